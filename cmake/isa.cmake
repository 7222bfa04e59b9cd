# bnpp_isa(name level flags...): the kernels, compiled once more with these flags as namespace bnpp::<name>.
# `level` is what __builtin_cpu_supports() is asked at run time; empty means every machine can.
include(CheckCXXSourceRuns)
include(ProcessorCount)

# The units of an instruction set, those that take longest first, so that no core idles at the end.
set(BNPP_KERNEL_UNITS row_norm affine grad_input weighted_gradients moments grad_sums weighted_moments combine
    weight_sums merge channels table)
# -O3 unrolls the loops over a vector's parts, which -O2 leaves in memory (up to 9 times slower). Below -O2 some
# compiler may emit functions of headers, with this unit's instructions, for the linker to pick: only with one
# instruction set, on the machine that runs it.
set(BNPP_KERNEL_OPTIMIZATION -O3 CACHE STRING "The kernels' optimization level")
set(BNPP_KERNEL_OPTIONS -ffp-contract=off -fno-math-errno -fno-trapping-math -fno-lto -Wall -Wextra -Wno-psabi)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # Where each variable of these units lies takes longer to write down than all the rest.
  list(APPEND BNPP_KERNEL_OPTIONS -fno-var-tracking)
  # What a tile has is asked once for a block of vectors: a copy of the loop for each answer is no faster.
  list(APPEND BNPP_KERNEL_OPTIONS -fno-unswitch-loops)
  # g++ 12 warns of its own intrinsics.
  list(APPEND BNPP_KERNEL_OPTIONS -Wno-uninitialized -Wno-maybe-uninitialized)
endif()
set(BNPP_ISAS all CACHE STRING "Instruction sets: all, best (the first this machine runs), or their names")
set(BNPP_KERNELS_FROM "" CACHE PATH "A build folder whose kernels are taken, those that it has, instead of compiled anew")
set_property(GLOBAL PROPERTY BNPP_ISA_ENTRIES "")
if(BNPP_KERNELS_FROM)
  get_filename_component(BNPP_KERNELS_FROM ${BNPP_KERNELS_FROM} ABSOLUTE BASE_DIR ${PROJECT_SOURCE_DIR})
  if(NOT IS_DIRECTORY ${BNPP_KERNELS_FROM})
    message(FATAL_ERROR "BNPP_KERNELS_FROM is '${BNPP_KERNELS_FROM}', but it needs to be a build folder")
  endif()
endif()

# Whether this build has it.
function(_bnpp_isa_wanted name level result)
  set(wanted FALSE)
  if(BNPP_ISAS STREQUAL "all" OR name STREQUAL "scalar" OR name IN_LIST BNPP_ISAS)
    set(wanted TRUE)
  elseif(BNPP_ISAS STREQUAL "best")
    get_property(before GLOBAL PROPERTY BNPP_ISA_ENTRIES)
    if(before STREQUAL "")
      set(wanted TRUE)
      if(level)
        check_cxx_source_runs("int main() { return __builtin_cpu_supports(\"${level}\") ? 0 : 1; }"
                              BNPP_RUNS_${name})
        set(wanted ${BNPP_RUNS_${name}})
      endif()
    endif()
  endif()
  set(${result} ${wanted} PARENT_SCOPE)
endfunction()

# Its objects in BNPP_KERNELS_FROM, or none.
function(_bnpp_isa_objects name result)
  set(objects "")
  set(include ${PROJECT_SOURCE_DIR}/cpp/include/bnpp)
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/cpp/src/kernels/* ${include}/dtype.h ${include}/half.h)
  # An edited kernel is asked about its age again.
  set_property(DIRECTORY ${PROJECT_SOURCE_DIR} APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${sources})
  foreach(unit IN LISTS BNPP_KERNEL_UNITS)
    set(object ${BNPP_KERNELS_FROM}/CMakeFiles/bnpp_kernels_${name}.dir/cpp/src/kernels/${unit}.cpp.o)
    if(NOT EXISTS ${object})
      set(objects "")
      break()
    endif()
    foreach(source IN LISTS sources)
      if(${source} IS_NEWER_THAN ${object})
        message(FATAL_ERROR "BNPP_KERNELS_FROM: ${object} is older than ${source}: build that folder "
                            "first, or configure with -DBNPP_KERNELS_FROM=")
      endif()
    endforeach()
    list(APPEND objects ${object})
  endforeach()
  set(${result} ${objects} PARENT_SCOPE)
endfunction()

function(bnpp_isa name level)
  set_property(GLOBAL APPEND PROPERTY BNPP_ISA_KNOWN ${name})
  _bnpp_isa_wanted(${name} "${level}" wanted)
  if(NOT wanted)
    return()
  endif()
  set(objects "")
  # Those of others are not sanitized, which only scalar shall not be.
  if(BNPP_KERNELS_FROM AND (name STREQUAL "scalar" OR NOT CMAKE_CXX_FLAGS MATCHES "-fsanitize"))
    _bnpp_isa_objects(${name} objects)
  endif()
  if(objects)
    message(STATUS "bnpp: the kernels ${name} are those of ${BNPP_KERNELS_FROM}")
    add_library(bnpp_kernels_${name} OBJECT IMPORTED GLOBAL)
    set_target_properties(bnpp_kernels_${name} PROPERTIES IMPORTED_OBJECTS "${objects}")
  else()
    list(TRANSFORM BNPP_KERNEL_UNITS PREPEND ${PROJECT_SOURCE_DIR}/cpp/src/kernels/ OUTPUT_VARIABLE sources)
    list(TRANSFORM sources APPEND .cpp)
    add_library(bnpp_kernels_${name} OBJECT ${sources})
    target_include_directories(bnpp_kernels_${name} PRIVATE
      ${PROJECT_SOURCE_DIR}/cpp/include ${PROJECT_SOURCE_DIR}/cpp/src)
    target_compile_definitions(bnpp_kernels_${name} PRIVATE BNPP_ISA=${name})
    target_compile_options(bnpp_kernels_${name} PRIVATE
      ${BNPP_KERNEL_OPTIMIZATION} ${BNPP_KERNEL_OPTIONS} ${ARGN})
    set_property(GLOBAL APPEND PROPERTY BNPP_ISA_COMPILED ${name})
  endif()
  target_sources(bnpp PRIVATE $<TARGET_OBJECTS:bnpp_kernels_${name}>)
  if(level)
    set(usable "__builtin_cpu_supports(\"${level}\")")
  else()
    set(usable "true")
  endif()
  set_property(GLOBAL APPEND_STRING PROPERTY BNPP_ISA_ENTRIES "BNPP_ISA_ENTRY(${name}, ${usable})\n")
endfunction()

# The list that dispatch.cpp reads; and what is about to take so long.
function(bnpp_write_isas)
  get_property(known GLOBAL PROPERTY BNPP_ISA_KNOWN)
  foreach(name IN LISTS BNPP_ISAS)
    if(NOT name IN_LIST known AND NOT name MATCHES "^(all|best)$")
      list(JOIN known ", " names)
      message(FATAL_ERROR "BNPP_ISAS has '${name}', but all, best or some of ${names} are needed")
    endif()
  endforeach()
  get_property(entries GLOBAL PROPERTY BNPP_ISA_ENTRIES)
  file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/generated/isas.inc
       CONTENT "// From the bnpp_isa() lines of CMakeLists.txt, best first.\n${entries}" @ONLY)
  get_property(compiled GLOBAL PROPERTY BNPP_ISA_COMPILED)
  list(REMOVE_ITEM compiled scalar)
  if(compiled AND BNPP_KERNEL_OPTIMIZATION STREQUAL "-O3")
    list(JOIN compiled ", " names)
    list(LENGTH compiled count)
    ProcessorCount(cores)
    if(cores EQUAL 0)
      set(cores 1)
    endif()
    math(EXPR seconds "${count} * 60 / ${cores}")  # a minute of a core each
    message(STATUS "bnpp: compiles its kernels for ${names}: about ${seconds} s on ${cores} cores, the first time")
  endif()
endfunction()
