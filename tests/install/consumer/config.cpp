// Compiles and links against component config: naming one function pulls in the library.
#include <forebay/config.hpp>

bool schema_is_linked() { return forebay::find_option("line") != nullptr; }
