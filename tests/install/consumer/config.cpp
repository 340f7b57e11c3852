// Compiles and links against component config.
#include <forebay/config.hpp>
