// What the units of an instruction set give its table: templates, which the unit of a verb defines
// and instantiates for every dtype.
#pragma once

#include "kernels/table.h"

namespace bnpp::BNPP_ISA {

template <class T, Layout layout>
void moments(const MomentsTile&);
template <class T, Layout layout>
void affine(const AffineTile&);
template <class T, Layout layout>
void grad_sums(const GradSumsTile&);
template <class T, Layout layout>
void grad_input(const GradInputTile&);
template <class T, Layout layout>
void combine(const CombineTile&);
template <class T, Layout layout>
void weight_sums(const WeightSumsTile&);
template <class T, Layout layout>
void weighted_moments(const WeightedMomentsTile&);
template <class T, Layout layout>
void weighted_grad_sums(const WeightedGradSumsTile&);
template <class T, Layout layout>
void weighted_grad_input(const WeightedGradInputTile&);

template <class T>
void row_moments(const MomentsTile&);
template <class T>
void row_weighted_moments(const RowWeightedMomentsTile&);
template <class T>
void row_affine(const RowAffineTile&);
template <class T>
void row_grad_sums(const RowGradSumsTile&);
template <class T>
void row_grad_input(const RowGradInputTile&);

void moments_of_sums(const BlockSums&, double count, std::ptrdiff_t channels,
                     const MomentsView& to);
void merge_moments(const MomentsView& a, double count_a, const MomentsView& b, double count_b,
                   std::ptrdiff_t channels);
void variances(const VarianceArgs&, std::ptrdiff_t channels);
void centers(const CenterArgs&, std::ptrdiff_t channels);
void scales(const ScaleArgs&, std::ptrdiff_t channels);
void gradients(const GradientArgs&, std::ptrdiff_t channels);

}  // namespace bnpp::BNPP_ISA
