# Finds llama.cpp and learns what it offers. Included where forebay_llama is made.
#
# Looked for in this order; the first that works is taken, headers and libraries together:
#   1. FOREBAY_LLAMA_ROOT, an installation prefix;
#   2. the cache folder's llama-<version>, where scripts/build_llama.sh installs
#      (FOREBAY_CACHE, default ~/.cache/forebay), newest first;
#   3. wherever find_package(llama) finds one.
# Sets FOREBAY_LLAMA_FOUND, the target `llama`, and FOREBAY_LLAMA_DEFINITIONS: what of the
# moving API is there, each 0 or 1. FOREBAY_LLAMA: ON fails without it, OFF does not look.
include(CheckCXXSourceCompiles)

set(FOREBAY_LLAMA_FOUND OFF)
set(FOREBAY_LLAMA_DEFINITIONS "")

function(forebay_llama_prefixes out)
  if(FOREBAY_LLAMA_ROOT)
    set(${out} "${FOREBAY_LLAMA_ROOT}" PARENT_SCOPE)
    return()
  endif()
  set(cache "$ENV{FOREBAY_CACHE}")
  if(NOT cache)
    set(cache "$ENV{HOME}/.cache/forebay")
  endif()
  file(GLOB prefixes LIST_DIRECTORIES true "${cache}/llama-[0-9]*")
  list(SORT prefixes COMPARE NATURAL ORDER DESCENDING)
  set(${out} "${prefixes}" PARENT_SCOPE)
endfunction()

# The tests, benchmarks and installed package link through forebay_llama, from other folders.
set(CMAKE_FIND_PACKAGE_TARGETS_GLOBAL ON)
if(NOT FOREBAY_LLAMA STREQUAL "OFF")
  forebay_llama_prefixes(forebay_prefixes)
  foreach(prefix IN LISTS forebay_prefixes)
    if(NOT llama_FOUND)
      set(ggml_ROOT "${prefix}")  # its own ggml, not one found elsewhere
      find_package(llama CONFIG QUIET PATHS "${prefix}" NO_DEFAULT_PATH)
      unset(ggml_ROOT)
    endif()
  endforeach()
  if(NOT llama_FOUND AND NOT FOREBAY_LLAMA_ROOT)
    find_package(llama CONFIG QUIET)
  endif()
endif()
unset(CMAKE_FIND_PACKAGE_TARGETS_GLOBAL)

# forebay_llama_probe(VARIABLE SOURCE): whether SOURCE compiles against it; cached per prefix.
function(forebay_llama_probe variable source)
  get_target_property(includes llama INTERFACE_INCLUDE_DIRECTORIES)
  set(CMAKE_REQUIRED_INCLUDES ${includes})
  set(CMAKE_REQUIRED_QUIET ON)
  set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
  string(MD5 key "${includes}${source}")
  check_cxx_source_compiles("${source}" FOREBAY_PROBE_${key})
  if(FOREBAY_PROBE_${key})
    set(${variable} 1 PARENT_SCOPE)
  else()
    set(${variable} 0 PARENT_SCOPE)
  endif()
endfunction()

if(llama_FOUND)
  forebay_llama_probe(forebay_llama_usable "
    #include <llama.h>
    void set(llama_context_params& p) {
      p.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_ENABLED;
      p.op_offload = false;
    }
    auto b = llama_memory_seq_pos_max(llama_get_memory(nullptr), 0);
    auto c = llama_model_default_params().devices;
    auto d = llama_vocab_is_eog(llama_model_get_vocab(nullptr), 0);")
  if(forebay_llama_usable)
    set(FOREBAY_LLAMA_FOUND ON)
    forebay_llama_probe(has_load_mode "
      #include <llama.h>
      void set(llama_model_params& p) { p.load_mode = LLAMA_LOAD_MODE_MMAP; }")
    forebay_llama_probe(has_outputs_max "
      #include <llama.h>
      auto n = llama_context_default_params().n_outputs_max;")
    forebay_llama_probe(has_version "
      #include <llama.h>
      const char* v = llama_version();")
    forebay_llama_probe(has_breakdown "
      #include <forebay-llama-private/llama-ext.h>
      auto n = llama_model_default_params().no_alloc;
      auto m = llama_get_memory_breakdown(nullptr).begin()->second.compute;")
    forebay_llama_probe(has_set_control_vector "
      #include <llama.h>
      auto r = llama_set_adapter_cvec((llama_context*)nullptr, nullptr, 0, 0, -1, -1);")
    # Buffers can be owned only with the layout that shim.cpp was written for.
    forebay_llama_probe(has_buffer_layout "
      #include <forebay-llama-private/ggml-backend-impl.h>
      static_assert(GGML_BACKEND_API_VERSION == 2);
      auto f = &ggml_backend_buffer_type::iface;
      auto c = &ggml_backend_buffer::context;")
    set(owns_buffers 0)
    if(has_buffer_layout AND has_set_control_vector)
      set(owns_buffers 1)
    endif()
    set(FOREBAY_LLAMA_DEFINITIONS
        FOREBAY_LLAMA_HAS_LOAD_MODE=${has_load_mode}
        FOREBAY_LLAMA_HAS_OUTPUTS_MAX=${has_outputs_max}
        FOREBAY_LLAMA_HAS_VERSION=${has_version}
        FOREBAY_LLAMA_HAS_BREAKDOWN=${has_breakdown}
        FOREBAY_LLAMA_HAS_SET_CONTROL_VECTOR=${has_set_control_vector}
        FOREBAY_LLAMA_OWNS_BUFFERS=${owns_buffers})
    message(STATUS "llama.cpp: ${llama_DIR} (buffers owned: ${owns_buffers})")
  else()
    message(STATUS "llama.cpp: ${llama_DIR} is too old for forebay::llama")
  endif()
endif()

if(NOT FOREBAY_LLAMA_FOUND)
  if(FOREBAY_LLAMA STREQUAL "ON")
    message(FATAL_ERROR "FOREBAY_LLAMA is ON, but no usable llama.cpp was found; "
                        "run scripts/setup.sh or set FOREBAY_LLAMA_ROOT")
  endif()
  message(STATUS "llama.cpp: not there; component forebay::llama is not built "
                 "(scripts/setup.sh fetches and builds it)")
endif()
