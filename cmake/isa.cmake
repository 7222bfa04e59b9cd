# bnpp_isa(name level flags...): compile the kernels once more, as namespace bnpp::<name>, with these flags.
# `level` is what __builtin_cpu_supports() is asked at run time; empty means every machine can.

# At least -O2 even in Debug: unoptimised units would emit library templates, with this unit's
# instructions, for the linker to pick. -O3 unrolls the loops over a vector's parts, which -O2 leaves in
# memory (up to 9 times slower), but takes minutes to compile under a sanitizer.
set(BNPP_KERNEL_OPTIMIZATION -O3 CACHE STRING "The kernels' optimization level, at least -O2")
set(BNPP_KERNEL_OPTIONS ${BNPP_KERNEL_OPTIMIZATION} -ffp-contract=off -fno-math-errno -fno-trapping-math -fno-lto
    -Wall -Wextra -Wno-psabi)
# Where each variable of these units lies takes longer to write down than all the rest.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  list(APPEND BNPP_KERNEL_OPTIONS -fno-var-tracking)
  # g++ 12 warns of its own intrinsics.
  list(APPEND BNPP_KERNEL_OPTIONS -Wno-uninitialized -Wno-maybe-uninitialized)
endif()
set_property(GLOBAL PROPERTY BNPP_ISA_ENTRIES "")

function(bnpp_isa name level)
  add_library(bnpp_kernels_${name} OBJECT ${PROJECT_SOURCE_DIR}/cpp/src/kernels/kernels.cpp)
  target_include_directories(bnpp_kernels_${name} PRIVATE
    ${PROJECT_SOURCE_DIR}/cpp/include ${PROJECT_SOURCE_DIR}/cpp/src)
  target_compile_definitions(bnpp_kernels_${name} PRIVATE BNPP_ISA=${name})
  target_compile_options(bnpp_kernels_${name} PRIVATE ${BNPP_KERNEL_OPTIONS} ${ARGN})
  target_sources(bnpp PRIVATE $<TARGET_OBJECTS:bnpp_kernels_${name}>)
  if(level)
    set(usable "__builtin_cpu_supports(\"${level}\")")
  else()
    set(usable "true")
  endif()
  set_property(GLOBAL APPEND_STRING PROPERTY BNPP_ISA_ENTRIES "BNPP_ISA_ENTRY(${name}, ${usable})\n")
endfunction()

# The list that dispatch.cpp reads.
function(bnpp_write_isas)
  get_property(entries GLOBAL PROPERTY BNPP_ISA_ENTRIES)
  file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/generated/isas.inc
       CONTENT "// From the bnpp_isa() lines of CMakeLists.txt, best first.\n${entries}" @ONLY)
endfunction()
