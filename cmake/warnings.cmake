# forebay_warnings(target): the warnings that all of our own code is clean of.
#
# GCC 12 sees overlapping copies in `"x" + std::string` once it inlines (GCC bug 105651,
# repaired in 13), hence no -Wrestrict there.
set(FOREBAY_WARNINGS -Wall -Wextra -Wpedantic -Wconversion -Wshadow)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  list(APPEND FOREBAY_WARNINGS -Wno-restrict)
endif()

function(forebay_warnings target)
  target_compile_options(${target} PRIVATE ${FOREBAY_WARNINGS}
                         $<$<BOOL:${FOREBAY_WERROR}>:-Werror>)
endfunction()
