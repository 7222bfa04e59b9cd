// What every unit of kernels is made of. Each .cpp of this folder is compiled once for each
// instruction set, into its namespace, and may include nothing but this (table.cpp
// only verbs.h): a library template emitted
// with a unit's flags could be the copy the linker keeps for everybody, an illegal instruction on
// older machines.
#pragma once

#include <cstddef>
#include <cstdint>
#if defined(__x86_64__) && !defined(BNPP_SCALAR)
#include <immintrin.h>
#endif

#include "bnpp/dtype.h"
#include "kernels/table.h"
// clang-format off: each builds on the ones before
#include "kernels/verbs.h"
#include "kernels/parts.h"
#include "kernels/vec.h"
#include "kernels/single.h"
#include "kernels/single_halves.h"
#include "kernels/walk.inl.h"
#include "kernels/narrow.inl.h"
#include "kernels/maps.inl.h"
#include "kernels/sums.inl.h"
#include "kernels/shift.inl.h"
#include "kernels/gradient.inl.h"
#include "kernels/weights.inl.h"
// clang-format on
