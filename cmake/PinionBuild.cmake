# SPDX-License-Identifier: MIT
#
# How Pinion's own code is compiled, and what a driver that uses it must be compiled with.
# The driver's flags are written once, here: the exported CMake target and both pinion.pc files take them from this list.

set(CMAKE_C_STANDARD 17)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

# -fshort-wchar                    WCHAR and L"" are 16 bits wide on Windows.
# -fno-omit-frame-pointer and      Reports walk the stack by frame pointer and name the caller of a DDI: both must still
#   -fno-optimize-sibling-calls    be there when the DDI runs.
# -fno-strict-aliasing             Driver code reads one object as several types throughout; the compiler that it was
#                                  written for has no rule against it.
# -fsigned-char                    char, and with it CHAR and CCHAR, has a sign on Windows whatever the processor.
# -Wno-multichar                   Pool tags are constants of four characters.
# -Wno-unknown-pragmas             #pragma warning and alloc_text speak to another compiler.
set(PINION_DRIVER_FLAGS -fshort-wchar -fno-omit-frame-pointer -fno-optimize-sibling-calls -fno-strict-aliasing
    -fsigned-char -Wno-multichar -Wno-unknown-pragmas)

set(PINION_WARNINGS
    -Wall -Wextra -Wshadow -Wundef -Wvla -Wstrict-prototypes -Wmissing-prototypes -Wconversion -Werror)

# A driver that is linked with an instrumented libpinion must be instrumented as well, so these flags are published too.
if(PINION_SANITIZE)
    set(PINION_SANITIZE_FLAGS -fsanitize=${PINION_SANITIZE} -fno-sanitize-recover=all)
    add_compile_options(${PINION_SANITIZE_FLAGS})
    add_link_options(${PINION_SANITIZE_FLAGS})
endif()

# What libFuzzer goes by is which ways through the library an input finds.
if(PINION_FUZZ)
    add_compile_options(-fsanitize=fuzzer-no-link)
    add_link_options(-fsanitize=fuzzer-no-link)
endif()

# Warnings are errors in everything that is ours, and glibc shows all it has.
function(pinion_compile_strictly target)
    target_compile_definitions(${target} PRIVATE _GNU_SOURCE)
    target_compile_options(${target} PRIVATE ${PINION_WARNINGS})
    set_target_properties(${target} PROPERTIES C_VISIBILITY_PRESET hidden)
endfunction()

# Flags and include directories of the library proper.
function(pinion_compile_as_library target)
    pinion_compile_strictly(${target})
    set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE ON)
    target_include_directories(${target} PRIVATE src include include/wdk)
    # The library is Linux code that speaks Windows: it keeps the host's ULONG_MAX, wide strings and names like __in.
    target_compile_definitions(${target} PRIVATE PINION_HOST_CODE)
    target_compile_options(${target} PRIVATE ${PINION_DRIVER_FLAGS} -ftls-model=initial-exec)
    if(CMAKE_C_COMPILER_ID STREQUAL "GNU" AND CMAKE_SYSTEM_PROCESSOR STREQUAL "x86_64")
        # gcc turns a memcpy of at most 4 KiB into `rep movsq`, which doubles the cost of locking one page.
        target_compile_options(${target} PRIVATE -mmemcpy-strategy=libcall:-1:noalign)
    endif()
endfunction()

# What everyone who links the library compiles with. The wdk folder wraps <wchar.h> and <limits.h> by #include_next and
# so must come as -I: as a system directory it could end up behind the headers that it wraps.
function(pinion_publish_usage target)
    target_compile_options(${target} INTERFACE ${PINION_DRIVER_FLAGS} ${PINION_SANITIZE_FLAGS})
    target_link_options(${target} INTERFACE ${PINION_SANITIZE_FLAGS})
    target_include_directories(${target} INTERFACE
        $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
        $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include/wdk>
        $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>
        $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/pinion/wdk>)
    set_target_properties(${target} PROPERTIES EXPORT_NO_SYSTEM ON EXPORT_NAME ${target})
endfunction()

# `pinion cc` adds the same flags as pinion.pc. It finds headers and library from where it lies itself.
function(pinion_tell_compiler_flags target)
    set(flags ${PINION_DRIVER_FLAGS} ${PINION_SANITIZE_FLAGS})
    list(TRANSFORM flags REPLACE "(.+)" "\"\\1\"")
    list(JOIN flags "," flags)
    file(RELATIVE_PATH include /${CMAKE_INSTALL_BINDIR} /${CMAKE_INSTALL_INCLUDEDIR})
    file(RELATIVE_PATH libraries /${CMAKE_INSTALL_BINDIR} /${CMAKE_INSTALL_LIBDIR})
    target_compile_definitions(${target} PRIVATE "PINION_CC_FLAGS=${flags}" PINION_SOURCE_INCLUDE="${PROJECT_SOURCE_DIR}/include"
                               PINION_INSTALLED_INCLUDE="${include}" PINION_INSTALLED_LIBRARIES="${libraries}")
endfunction()

# examples/broken: each file beside filter.c is a driver of its own, build/examples/broken/NAME.so.
function(pinion_broken_examples folder)
    foreach(source ${ARGN})
        cmake_path(GET source STEM name)
        if(NOT name STREQUAL "filter")
            add_library(broken_${name} MODULE ${source} ${folder}/filter.c)
            set_target_properties(broken_${name} PROPERTIES
                PREFIX "" OUTPUT_NAME ${name} LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/examples/broken)
            target_link_libraries(broken_${name} PRIVATE pinion)
            add_dependencies(examples broken_${name})
        endif()
    endforeach()
endfunction()

# A driver: examples/splitter becomes build/examples/splitter.so, with nothing but the flags that Pinion publishes.
function(pinion_example folder)
    cmake_path(GET folder FILENAME name)
    add_library(example_${name} MODULE ${ARGN})
    set_target_properties(example_${name} PROPERTIES
        PREFIX "" OUTPUT_NAME ${name} LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/examples)
    target_link_libraries(example_${name} PRIVATE pinion)
    add_dependencies(examples example_${name})
endfunction()
