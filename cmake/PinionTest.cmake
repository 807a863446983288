# SPDX-License-Identifier: MIT
#
# pinion_test_program(target SOURCES file.c... [STATIC] [OWN_RUNNER] [ALONE])
#   One program over tests/harness. STATIC shows it src/ and the static library; ALONE leaves the library out altogether
#   (the harness' own test). Criterion runs it unless OWN_RUNNER says otherwise, or PINION_TEST_RUNNER does for all:
#   Criterion does not start under ThreadSanitizer.
#
# pinion_test(NAME suite/file [LABELS label...] ...)
#   The same, registered with CTest.

set(PINION_HARNESS ${PROJECT_SOURCE_DIR}/tests/harness)

if(PINION_TEST_RUNNER STREQUAL "criterion")
    pkg_check_modules(CRITERION IMPORTED_TARGET criterion)
    if(NOT CRITERION_FOUND)
        message(WARNING "Criterion is not installed: tests are built with the project's own runner")
    endif()
endif()

# The sanitizers' shadow memory does not fit beside a mapping that address-space randomisation puts in its way, which
# kernels with vm.mmap_rnd_bits = 32 do now and then; gcc 12 and clang 14 then die with "unexpected memory mapping".
if(PINION_SANITIZE)
    set(PINION_TEST_LAUNCHER ${PROJECT_SOURCE_DIR}/tools/without-aslr)
endif()

function(pinion_test_program target)
    cmake_parse_arguments(PARSE_ARGV 1 T "STATIC;OWN_RUNNER;ALONE" "" "SOURCES")
    if(T_OWN_RUNNER OR NOT CRITERION_FOUND)
        set(runner runner)
    else()
        set(runner criterion)
    endif()

    add_executable(${target} ${T_SOURCES} ${PINION_HARNESS}/harness.c ${PINION_HARNESS}/child.c ${PINION_HARNESS}/${runner}.c)
    pinion_compile_strictly(${target})
    target_include_directories(${target} PRIVATE ${PINION_HARNESS})
    target_link_libraries(${target} PRIVATE Threads::Threads)
    if(runner STREQUAL "criterion")
        target_compile_definitions(${target} PRIVATE HARNESS_CRITERION=1)
        target_link_libraries(${target} PRIVATE PkgConfig::CRITERION)
    else()
        target_compile_definitions(${target} PRIVATE HARNESS_CRITERION=0)
    endif()
    if(NOT T_ALONE)
        target_sources(${target} PRIVATE ${PINION_HARNESS}/idle.c)
        target_link_libraries(${target} PRIVATE $<IF:$<BOOL:${T_STATIC}>,pinion_static,pinion>)
    endif()
    if(T_STATIC)
        target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/src)
    endif()
endfunction()

function(pinion_test)
    cmake_parse_arguments(PARSE_ARGV 0 T "" "NAME" "LABELS")
    string(REPLACE "/" "-" target test-${T_NAME})
    pinion_test_program(${target} ${T_UNPARSED_ARGUMENTS})
    add_test(NAME ${T_NAME} COMMAND ${PINION_TEST_LAUNCHER} $<TARGET_FILE:${target}>)
    set_tests_properties(${T_NAME} PROPERTIES LABELS "${T_LABELS}" TIMEOUT 300
        ENVIRONMENT "TSAN_OPTIONS=halt_on_error=1;UBSAN_OPTIONS=print_stacktrace=1")
endfunction()

# Registers tests/FOLDER/file.c by the conventions that tests/CMakeLists.txt states.
function(pinion_test_file folder source)
    cmake_path(GET source STEM name)
    set(flags)
    set(labels ${folder})
    if(folder STREQUAL "unit")
        list(APPEND flags STATIC)
    endif()
    if(folder STREQUAL "stress")
        list(APPEND flags OWN_RUNNER)
    elseif(name MATCHES "_threads$")
        list(APPEND flags OWN_RUNNER)
        list(APPEND labels concurrent)
    elseif(PINION_SANITIZE STREQUAL "thread")
        return()
    endif()
    pinion_test(NAME ${folder}/${name} SOURCES ${source} ${flags} LABELS ${labels})
endfunction()
