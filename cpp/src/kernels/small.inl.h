// Which lanes of a map are float32 arithmetic, and which float64. Each by itself, so that no bit
// depends on the rest of its vector or tile.
//
// Halves: a term is rounded three times, by 2^-24 of itself at most. Where the result is at least
// 1 / kTermsOver of its other terms it is therefore about 3/8 of a unit in the half's last place
// off at most before it is rounded to half, and where it is as large as they are, 2^-10 of one or
// less. The other lanes, few, are computed again.
#pragma once

namespace bnpp::BNPP_ISA {
namespace {

// Numbers of channels that float32 has room for, with as much above and below for what they are
// multiplied with: none is finite and beyond kRoom, and those in range are 0 or at least 1 / kRoom.
// What is Inf or NaN is so in float32, too.
constexpr double kRoom = 0x1p100;
inline bool is_moderate(double v) {
  const double size = __builtin_fabs(v);
  return !(size > kRoom) || size - size != 0;
}
inline bool is_in_range(double v) {
  const double size = __builtin_fabs(v);
  return is_moderate(v) && !(size > 0 && size < 1 / kRoom);
}

// Whether all are: first by their squares, which leave the unusual ones, and 0, to a closer look.
template <bool in_range>
inline bool all_fit(const double* values, std::ptrdiff_t channels) {
  const auto fits = [](double v) { return in_range ? is_in_range(v) : is_moderate(v); };
  if (channels == 1) return fits(*values);
  const Vec most = splat(kRoom * kRoom), least = splat(1 / (kRoom * kRoom));
  unsigned unusual = 0;
  for_each_vector(channels, [&](std::ptrdiff_t c, auto lanes) BNPP_INLINE_LAMBDA {
    const Vec v = load(values + c, lanes), square = first_of(v * v, lanes, splat(1));
    unusual |= to_bits(positive(square - most));
    if constexpr (in_range) unusual |= to_bits(positive(least - square));
  });
  for (std::ptrdiff_t c = 0; unusual != 0 && c < channels; ++c) {
    if (!fits(values[c])) return false;
  }
  return true;
}
inline bool all_moderate(const double* values, std::ptrdiff_t channels) {
  return all_fit<false>(values, channels);
}
inline bool all_in_range(const double* values, std::ptrdiff_t channels) {
  return all_fit<true>(values, channels);
}

template <class T>
constexpr float kTermsOver = 0;
template <>
constexpr float kTermsOver<float16> = 0x1p9f;
template <>
constexpr float kTermsOver<bfloat16> = 0x1p12f;

// The parameters of columns [j, j + 16) of a tile in float64, also where rows are one run and j
// counts on.
template <Layout layout, int n, class Tile, class Lanes>
inline Params<n> exact_params(const Tile& t, const double* const (&values)[n], std::ptrdiff_t j,
                              Lanes lanes) {
  Params<n> params;
  if constexpr (layout == Layout::rows) {
    for (int k = 0; k < n; ++k) params.p[k] = splat(*values[k]);
    return params;
  }
  const std::ptrdiff_t channels = t.cols / t.repeat, column = j % t.cols;
  std::ptrdiff_t c = column / t.repeat, left = t.repeat - column % t.repeat;
  if (t.repeat == 1 && column + kLanes <= t.cols) {
    for (int k = 0; k < n; ++k) params.p[k] = load(values[k] + c, lanes);
    return params;
  }
  double of_lanes[n][kLanes];
  for (std::ptrdiff_t lane = 0; lane < kLanes; ++lane) {
    for (int k = 0; k < n; ++k) of_lanes[k][lane] = values[k][c];
    if (--left > 0) continue;
    left = t.repeat;
    c = c + 1 < channels ? c + 1 : 0;
  }
  for (int k = 0; k < n; ++k) params.p[k] = load(of_lanes[k]);
  return params;
}

inline Single to_single(Vec v) {
  float lanes[kLanes];
  store(lanes, v);
  return load_single(lanes);
}
inline Vec to_vec(Single v) {
  float lanes[kLanes];
  store(lanes, v);
  return load(lanes);
}

// What float32 has no room for, bfloat16 has, where float64 terms cancel.
template <class T>
constexpr bool kMayOverflow = false;
template <>
constexpr bool kMayOverflow<bfloat16> = true;

// value(i, j, lanes, params, others) where others, the sizes of all terms but one, do not exceed it
// by far: else the same in float64.
template <class T, Layout layout, int n, class V, class Tile, class Lanes, class Value>
BNPP_INLINE V mended(const Tile& t, const double* const (&values)[n], std::ptrdiff_t i,
                     std::ptrdiff_t j, Lanes lanes, const Params<n, V>& params,
                     const Value& value) {
  V others;
  V v = value(i, j, lanes, params, others);
  if constexpr (kTermsOver<T> > 0 && Arithmetic<V>::is_single) {
    const Single least = others * splat_single(1 / kTermsOver<T>);
    unsigned small = bits_of_less(magnitude(v), least);
    if constexpr (kMayOverflow<T>) {
      small |= ~bits_of_less(magnitude(v), splat_single(__builtin_inff())) & 0xffff;
    }
    if (__builtin_expect(small != 0, false)) {
      Vec unused;
      const Params<n> exact = exact_params<layout>(t, values, j, lanes);
      const Single again = to_single(value(i, j, lanes, exact, unused));
      v = choose(Arithmetic<Single>::mask(small), again, v);
    }
  }
  return v;
}

// Bit by bit what is_moderate and is_in_range tell of one number.
inline unsigned bits_of_moderate(Vec v) {
  const Vec size = magnitude(v);
  return ~(to_bits(positive(size - splat(kRoom))) & to_bits(finite(size)));
}
inline unsigned bits_of_in_range(Vec v) {
  const Vec size = magnitude(v);
  const unsigned tiny = to_bits(positive(size)) & to_bits(positive(splat(1 / kRoom) - size));
  return bits_of_moderate(v) & ~tiny;
}

// In a tile of which float32 has no room for some channels: those whose bits are set in float32 as
// in any other tile, the others in float64.
template <class T, Layout layout, int n, class Tile, class Lanes, class Value>
BNPP_INLINE Vec mixed(const Tile& t, const double* const (&values)[n], std::ptrdiff_t i,
                      std::ptrdiff_t j, Lanes lanes, const Params<n>& params, unsigned fits,
                      const Value& value) {
  Params<n, Single> narrow;
  for (int k = 0; k < n; ++k) narrow.p[k] = to_single(params.p[k]);
  const Single single = mended<T, layout>(t, values, i, j, lanes, narrow, value);
  Vec unused;
  return choose(mask_from_bits(fits & 0xffff), to_vec(single), value(i, j, lanes, params, unused));
}

}  // namespace
}  // namespace bnpp::BNPP_ISA
