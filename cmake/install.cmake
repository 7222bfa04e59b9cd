# Headers, library and the package files that find_package(bnpp) reads.
include(CMakePackageConfigHelpers)

install(TARGETS bnpp EXPORT bnpp ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY cpp/include/bnpp DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
set(bnpp_cmake_dir ${CMAKE_INSTALL_LIBDIR}/cmake/bnpp)
install(EXPORT bnpp NAMESPACE bnpp:: FILE bnppTargets.cmake DESTINATION ${bnpp_cmake_dir})
configure_package_config_file(cmake/bnppConfig.cmake.in ${PROJECT_BINARY_DIR}/bnppConfig.cmake
  INSTALL_DESTINATION ${bnpp_cmake_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/bnppConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/bnppConfig.cmake ${PROJECT_BINARY_DIR}/bnppConfigVersion.cmake
  DESTINATION ${bnpp_cmake_dir})
