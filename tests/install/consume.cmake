# Installs Forebay to ${scratch}/prefix and builds and runs the consumer project against it.
#   kind=static  takes the build in ${build} as it is
#   kind=shared  builds the core and its components anew with BUILD_SHARED_LIBS=ON
cmake_minimum_required(VERSION 3.25)

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE code OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT code EQUAL 0)
    string(JOIN " " command ${ARGN})
    message(FATAL_ERROR "failed (${code}): ${command}\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

set(with_compiler -G Ninja -D CMAKE_CXX_COMPILER=${compiler} -D CMAKE_CXX_COMPILER_LAUNCHER=${launcher}
    -D CMAKE_C_COMPILER=${c_compiler})
set(prefix ${scratch}/prefix)
file(REMOVE_RECURSE ${prefix} ${scratch}/consumer ${scratch}/moved)

if(kind STREQUAL "shared")
  run(${CMAKE_COMMAND} -S ${forebay} -B ${scratch}/build ${with_compiler} -D BUILD_SHARED_LIBS=ON
      -D CMAKE_BUILD_TYPE=Debug -D CMAKE_CXX_FLAGS_DEBUG=-O0 -D FOREBAY_BUILD_TESTS=OFF
      -D FOREBAY_BUILD_BENCHMARKS=OFF -D FOREBAY_BUILD_APPS=OFF)
  run(${CMAKE_COMMAND} --build ${scratch}/build --parallel 2)
  set(build ${scratch}/build)
endif()
run(${CMAKE_COMMAND} --install ${build} --prefix ${prefix})

# A prefix may be moved.
file(RENAME ${prefix} ${scratch}/moved)
set(prefix ${scratch}/moved)

run(${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR}/consumer -B ${scratch}/consumer ${with_compiler}
    -D CMAKE_PREFIX_PATH=${prefix})
run(${CMAKE_COMMAND} --build ${scratch}/consumer)
run(${scratch}/consumer/consumer)
run(${scratch}/consumer/consumer_c)
message("${output}")

# A component that does not exist is refused by its name.
execute_process(COMMAND ${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR}/consumer
                        -B ${scratch}/consumer-refused ${with_compiler} -D CMAKE_PREFIX_PATH=${prefix}
                        -D COMPONENT=teleport
                RESULT_VARIABLE code OUTPUT_VARIABLE output ERROR_VARIABLE output)
if(code EQUAL 0 OR NOT output MATCHES "built without[ \n]+component[ \n]+teleport")
  message(FATAL_ERROR "an unknown component was not refused by name (${code}):\n${output}")
endif()

# The same program by pkg-config alone.
find_program(pkg_config pkg-config)
if(pkg_config)
  file(GLOB_RECURSE pc ${prefix}/forebay.pc)
  get_filename_component(pc_folder ${pc} DIRECTORY)
  set(ENV{PKG_CONFIG_PATH} ${pc_folder})
  set(closure "")
  if(kind STREQUAL "static")
    set(closure --static)
  endif()
  run(${pkg_config} ${closure} --cflags --libs forebay)
  separate_arguments(flags UNIX_COMMAND "${output}")
  get_filename_component(libraries ${pc_folder} DIRECTORY)
  run(${compiler} -std=c++20 ${CMAKE_CURRENT_LIST_DIR}/consumer/main.cpp ${flags}
      -Wl,-rpath,${libraries} -o ${scratch}/consumer/by-pkg-config)
  run(${scratch}/consumer/by-pkg-config)
  run(${c_compiler} -std=c11 -pedantic-errors ${CMAKE_CURRENT_LIST_DIR}/consumer/main.c ${flags}
      -Wl,-rpath,${libraries} -o ${scratch}/consumer/by-pkg-config-c)
  run(${scratch}/consumer/by-pkg-config-c)
endif()
