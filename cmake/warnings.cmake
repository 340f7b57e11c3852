# forebay_warnings(target): the warnings that all of our own code is clean of.
function(forebay_warnings target)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -Wconversion -Wshadow
                         $<$<BOOL:${FOREBAY_WERROR}>:-Werror>)
endfunction()
