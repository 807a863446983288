# SPDX-License-Identifier: MIT
#
# What other projects consume: the installed tree, pinion.pc and PinionConfig.cmake, each also for the build tree.

include(CMakePackageConfigHelpers)

set(PINION_CONFIG_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/Pinion)
set(PINION_PC_DIR ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

install(TARGETS pinion pinion_static EXPORT PinionTargets
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(TARGETS pinion_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(DIRECTORY include/pinion/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/pinion)
install(DIRECTORY include/wdk/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/pinion/wdk)
# Where gdb looks for commands of its own accord, by the path of the library. In the build tree they are for `gdb -x`: it would warn at
# each start of commands beside a library that it has not been told to trust.
install(FILES tools/pinion-gdb.py DESTINATION ${CMAKE_INSTALL_DATADIR}/gdb/auto-load${CMAKE_INSTALL_FULL_LIBDIR}
        RENAME libpinion.so.${PROJECT_VERSION}-gdb.py)
install(FILES README.md CHANGELOG.md LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} OPTIONAL)
install(DIRECTORY docs/ DESTINATION ${CMAKE_INSTALL_DOCDIR} OPTIONAL)

# find_package(Pinion) gives Pinion::pinion and Pinion::pinion_static, from an install or from the build tree (Pinion_DIR=build).
install(EXPORT PinionTargets NAMESPACE Pinion:: DESTINATION ${PINION_CONFIG_DIR})
export(EXPORT PinionTargets NAMESPACE Pinion:: FILE ${PROJECT_BINARY_DIR}/PinionTargets.cmake)
configure_file(cmake/PinionConfig.cmake.in PinionConfig.cmake @ONLY)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/PinionConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/PinionConfig.cmake ${PROJECT_BINARY_DIR}/PinionConfigVersion.cmake
        DESTINATION ${PINION_CONFIG_DIR})

# pinion.pc comes from one template twice. The build tree's names its directories and sets an rpath, so that what is
# linked with it runs in place; the installed one finds its prefix relative to itself, so that the tree can be moved.
list(JOIN PINION_DRIVER_FLAGS " " driver_flags)
list(JOIN PINION_SANITIZE_FLAGS " " sanitize_flags)
set(PC_CFLAGS "${driver_flags} ${sanitize_flags}")

function(pinion_write_pc file prefix libdir include wdk libs)
    set(PC_PREFIX ${prefix})
    set(PC_LIBDIR ${libdir})
    set(PC_INCLUDE ${include})
    set(PC_WDK ${wdk})
    set(PC_LIBS ${libs})
    configure_file(cmake/pinion.pc.in ${file} @ONLY)
endfunction()

file(RELATIVE_PATH up /${PINION_PC_DIR} /)
pinion_write_pc(${PROJECT_BINARY_DIR}/pinion.pc ${PROJECT_BINARY_DIR} ${PROJECT_BINARY_DIR}
                ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/include/wdk "-Wl,-rpath,\${libdir} ${sanitize_flags}")
pinion_write_pc(${PROJECT_BINARY_DIR}/install/pinion.pc "\${pcfiledir}/${up}" "\${prefix}/${CMAKE_INSTALL_LIBDIR}"
                "\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}" "\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}/pinion/wdk" "${sanitize_flags}")
install(FILES ${PROJECT_BINARY_DIR}/install/pinion.pc DESTINATION ${PINION_PC_DIR})
