// Compiles and links against component llama: naming one function pulls in the library.
#include <forebay/generate.hpp>
#include <forebay/llama.hpp>

bool engine_is_linked() { return &forebay::llama::Engine::load != nullptr; }
