# Installs the library, its headers and what other projects find it by: a CMake package
# with the optional components config, llama and telemetry, and a pkg-config file.
set(FOREBAY_PACKAGE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/forebay)

# Headers of components that were not built stay behind.
set(headers_of_config config)
set(headers_of_llama llama generate)
set(headers_of_telemetry telemetry)
set(headers_left_out "")
set(FOREBAY_COMPONENTS "")
foreach(component IN ITEMS config llama telemetry)
  if(NOT TARGET forebay_${component})
    foreach(header IN LISTS headers_of_${component})
      list(APPEND headers_left_out PATTERN ${header}.hpp EXCLUDE)
    endforeach()
    continue()
  endif()
  list(APPEND FOREBAY_COMPONENTS ${component})
  set_target_properties(forebay_${component} PROPERTIES EXPORT_NAME ${component})
  install(TARGETS forebay_${component} EXPORT forebay-${component})
  install(EXPORT forebay-${component} NAMESPACE forebay:: DESTINATION ${FOREBAY_PACKAGE_DIR})
endforeach()

install(TARGETS forebay EXPORT forebay-core)
install(EXPORT forebay-core NAMESPACE forebay:: DESTINATION ${FOREBAY_PACKAGE_DIR})
install(DIRECTORY include/forebay DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        FILES_MATCHING PATTERN "*.hpp" PATTERN "*.h" ${headers_left_out})

set(FOREBAY_LLAMA_PREFIX "")
if(TARGET forebay_llama)
  cmake_path(SET FOREBAY_LLAMA_PREFIX NORMALIZE "${llama_DIR}/../../..")
endif()
configure_package_config_file(cmake/forebayConfig.cmake.in forebayConfig.cmake
                              INSTALL_DESTINATION ${FOREBAY_PACKAGE_DIR}
                              NO_CHECK_REQUIRED_COMPONENTS_MACRO)
write_basic_package_version_file(forebayConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/forebayConfig.cmake
              ${CMAKE_CURRENT_BINARY_DIR}/forebayConfigVersion.cmake
        DESTINATION ${FOREBAY_PACKAGE_DIR})

# A static library needs what it uses at link time; a shared one has it inside. Paths are
# relative to the file, so that the prefix may be moved.
file(RELATIVE_PATH FOREBAY_PC_PREFIX ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
configure_file(cmake/forebay.pc.in forebay.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/forebay.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
