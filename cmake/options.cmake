# Every switch of the build, in one place.
option(FOREBAY_BUILD_APPS "Build the forebay command" ${PROJECT_IS_TOP_LEVEL})
option(FOREBAY_BUILD_TESTS "Build the tests and examples" ${PROJECT_IS_TOP_LEVEL})
option(FOREBAY_BUILD_BENCHMARKS "Build the benchmarks" ${PROJECT_IS_TOP_LEVEL})
option(FOREBAY_PARANOID "Check whole structures while running (slow)" OFF)
option(FOREBAY_TRACKING "Tags, samples and records of blocks; off only to measure what they cost" ON)
option(FOREBAY_WERROR "Treat warnings as errors" ${PROJECT_IS_TOP_LEVEL})
set(FOREBAY_CONFIG "AUTO" CACHE STRING "Component forebay::config (needs yaml-cpp, CLI11): ON, OFF, AUTO")
set(FOREBAY_LLAMA "AUTO" CACHE STRING "Component forebay::llama (needs llama.cpp): ON, OFF, AUTO")
set(FOREBAY_TELEMETRY "AUTO" CACHE STRING "Component forebay::telemetry (needs nlohmann-json, zstd, zlib, protobuf): ON, OFF, AUTO")
set(FOREBAY_LLAMA_ROOT "" CACHE PATH "Where scripts/setup.sh put llama.cpp; empty: the cache folder")
set(FOREBAY_DLPACK "AUTO" CACHE STRING "Tensors in and out by DLPack (needs dlpack/dlpack.h): ON, OFF, AUTO")
set(FOREBAY_SANITIZE "" CACHE STRING "Sanitizers: address,undefined or thread")

if(FOREBAY_SANITIZE)
  add_compile_options(-fsanitize=${FOREBAY_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${FOREBAY_SANITIZE})
  # Null pointers and ends of objects are AddressSanitizer's too: without the second check of each,
  # the suite is built in four fifths of the time.
  if(FOREBAY_SANITIZE MATCHES "address.*undefined")
    add_compile_options(-fno-sanitize=null,object-size)
  endif()
endif()
if(FOREBAY_PARANOID)
  add_compile_definitions(FOREBAY_PARANOID)
endif()

if(NOT FOREBAY_TRACKING)
  add_compile_definitions(FOREBAY_NO_TRACKING)
endif()

# ccache, where it is there, makes fresh clones cheap.
find_program(FOREBAY_CCACHE ccache)
if(FOREBAY_CCACHE AND PROJECT_IS_TOP_LEVEL AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_C_COMPILER_LAUNCHER ${FOREBAY_CCACHE})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${FOREBAY_CCACHE})
endif()
