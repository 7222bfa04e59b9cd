// Random tiles for the kernel check: the shapes, memory and numbers that callers may make, with
// guards about what a kernel writes.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>

#include "check.h"
#include "fold/values.h"
#include "kernels/table.h"

namespace bnpp_tests {

using bnpp::DType;
using bnpp::Layout;
using Index = std::ptrdiff_t;

// The same numbers with every compiler and library: splitmix64.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t bits() {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
  }
  Index below(Index n) { return static_cast<Index>(bits() % static_cast<std::uint64_t>(n)); }
  bool chance(double p) { return static_cast<double>(bits() >> 11) * 0x1p-53 < p; }
  double normal() {  // nearly: the sum of four uniform numbers
    double sum = -131070;
    for (std::uint64_t b = bits(), k = 0; k < 4; ++k, b >>= 16) sum += double(b & 0xffff);
    return sum / 37837;
  }
  double one_of(std::initializer_list<double> values) {
    return values.begin()[below(static_cast<Index>(values.size()))];
  }

 private:
  std::uint64_t state_;
};

enum class Use { in, out, both };

// `rows` runs of `cols` items, from item `offset` of the memory on.
struct Place {
  Index rows, cols, stride, offset;
};

// One tensor, array or mask of a tile. Inputs end with their last item, so that the address
// sanitizer sees what reads beyond; outputs lie between guards.
class Buffer {
 public:
  template <class Value>
  Buffer(const char* name, Use use, DType dtype, Index item, const Place& place, Value value)
      : name_(name), use_(use), dtype_(dtype), item_(item), place_(place) {
    const Index guard = use == Use::in ? 0 : 2 * kLine, reach = (place.rows - 1) * place.stride;
    first_ = guard + (place.offset - std::min<Index>(reach, 0)) * item;
    const Index size = 2 * guard + (place.offset + std::abs(reach) + place.cols) * item;
    start_.resize(static_cast<std::size_t>(size));
    memory_.reset(static_cast<char*>(::operator new(start_.size(), kLineAlign)));
    for (Index i = 0; use != Use::out && i < place.rows; ++i) {
      for (Index j = 0; j < place.cols; ++j) put(start_.data() + at(i, j), value(i, j));
    }
    std::copy(start_.begin(), start_.end(), memory_.get());
  }

  void* data() const { return memory_.get() + first_; }

  // What lies around the items, and where items will be written, has other bytes in each run: no
  // result may depend on it, and none may be left unwritten.
  void prepare(int around) {
    std::vector<char> fresh(start_.size(), static_cast<char>(around));
    if (use_ != Use::out) copy_items(start_.data(), fresh.data());
    start_ = std::move(fresh);
    std::copy(start_.begin(), start_.end(), memory_.get());
  }
  void keep_result() { result_.assign(memory_.get(), memory_.get() + start_.size()); }

  // What is wrong after a run; nothing if all is well.
  std::string difference() const {
    std::vector<char> around(memory_.get(), memory_.get() + start_.size());
    if (use_ != Use::in) copy_items(start_.data(), around.data());
    const auto wrong = std::mismatch(around.begin(), around.end(), start_.begin()).first;
    if (wrong != around.end()) {
      return name_ + (use_ == Use::in ? ", an input, was written" : " was written outside") +
             " at byte " + std::to_string(wrong - around.begin() - first_);
    }
    for (Index i = 0; !result_.empty() && i < place_.rows; ++i) {
      for (Index j = 0; use_ != Use::in && j < place_.cols; ++j) {
        const char *is = memory_.get() + at(i, j), *was = result_.data() + at(i, j);
        if (std::memcmp(is, was, static_cast<std::size_t>(item_)) == 0) continue;
        const double a = get(is), b = get(was);
        if (std::isnan(a) && std::isnan(b)) continue;
        char text[160];
        std::snprintf(text, sizeof(text), "[%td][%td] is %a = %.9g, by scalar %a = %.9g", i, j, a,
                      a, b, b);
        return name_ + text;
      }
    }
    return "";
  }

 private:
  static constexpr Index kLine = 64;  // on which memory begins, so that runs repeat exactly
  static constexpr std::align_val_t kLineAlign{kLine};
  struct Free {
    void operator()(char* memory) const { ::operator delete(memory, kLineAlign); }
  };

  Index at(Index i, Index j) const { return first_ + (i * place_.stride + j) * item_; }
  void copy_items(const char* from, char* to) const {
    const auto bytes = static_cast<std::size_t>(place_.cols * item_);
    for (Index i = 0; i < place_.rows; ++i) std::memcpy(to + at(i, 0), from + at(i, 0), bytes);
  }
  void put(char* to, double v) const {
    if (item_ == 1) {  // mask bits
      *to = static_cast<char>(static_cast<int>(v));
      return;
    }
    bnpp::with_type(dtype_, [&](auto tag) { bnpp::store_value<decltype(tag)>(to, v); });
  }
  double get(const char* from) const {
    double v = static_cast<unsigned char>(*from);
    if (item_ == 1) return v;
    bnpp::with_type(dtype_, [&](auto tag) { v = bnpp::load_value<decltype(tag)>(from); });
    return v;
  }

  std::string name_;
  Use use_;
  DType dtype_;
  Index item_, first_;
  Place place_;
  std::unique_ptr<char, Free> memory_;
  std::vector<char> start_, result_;  // before a run, and after that of scalar
};

enum class Kind { verb, row_verb, channels };

template <class T>
struct ViewOf {
  T* data = nullptr;
  Index stride = 0;
};
using View = ViewOf<void>;
using MaskView = ViewOf<std::uint8_t>;

// A random tile: its shape, its memory, and what its numbers are like.
class Tile {
 public:
  Tile(std::uint64_t seed, Kind kind, DType dtype, Layout layout)
      : random(seed),
        kind(kind),
        dtype(dtype),
        layout(layout),
        in_cols(kind == Kind::verb && layout == Layout::cols) {
    one_run_ = random.chance(0.45);
    coarse_ = random.chance(0.3);
    constant_ = random.chance(0.08);
    outliers_ = random.chance(0.15);
    finite_ = random.chance(0.5);
    about_zero_ = random.chance(0.25);
    factor = random.normal();
    if (random.chance(0.25)) special_ = random.one_of({0.002, 0.02, 0.2});
    if (random.chance(0.2)) unusual_ = random.one_of({0.02, 0.2, 0.6});
    const bool runs = in_cols && random.chance(0.45);
    if (runs) repeat = 1 + random.below(random.chance(0.7) ? 20 : 128);
    if (runs && random.chance(0.15)) repeat = 96 + 8 * random.below(21);
    // One draw an expression, whose order is a compiler's choice.
    const Index draw = random.below(20), whole = 16 + 16 * random.below(9);
    const Index about[] = {1 + random.below(70), whole - 1 + random.below(3), 1 + random.below(400),
                           1 + random.below(3000)};
    tiny_ = random.chance(0.08);  // less than a vector in all
    set_shape(tiny_ ? 1 + about[0] % 5
                    : about[draw < 11   ? 0
                            : draw < 14 ? 1
                            : draw < 18 ? 2
                                        : 3],
              1024);
  }

  Random random;
  const Kind kind;
  const DType dtype;
  const Layout layout;
  const bool in_cols;
  Index rows = 1, cols = 1, repeat = 1, stats = 1;  // stats: numbers in each parameter
  double size = 1, factor = 1;                      // of gradients, of what they and x take
  std::vector<Buffer> buffers;
  std::vector<std::int32_t> start;  // of the rows listed
  std::string text;

  // About so many columns. Plans give tiles in layout cols whole channels, and at most 1024
  // columns; all tiles have one row and column at least.
  void set_shape(Index about, Index most) {
    cols = in_cols ? std::max<Index>(1, std::min(about, most) / repeat) * repeat : about;
    const Index some[] = {1 + random.below(12), 1 + random.below(70), 100 + random.below(600),
                          2000 + random.below(2500)};
    const Index draw = random.below(20);
    rows = some[draw < 9 ? 0 : draw < 16 ? 1 : draw < 18 || cols > 12 ? 2 : 3];
    rows = std::clamp<Index>(20000 / cols, 1, rows);
    if (tiny_) rows = 1 + random.below(3);
    if (kind == Kind::row_verb) rows = std::min<Index>(rows, 256);  // kTileRowsMax
    if (kind == Kind::channels) rows = 1;
    if (!in_cols) repeat = kind == Kind::verb ? cols + random.below(3) : 1;  // of whole runs
    stats = in_cols ? cols / repeat : kind == Kind::row_verb ? rows : kind == Kind::verb ? 1 : cols;
    const bool half = bnpp::size_of(dtype) == 2, alike = random.chance(0.5);
    const double far = !half                     ? dtype == DType::float32 ? 0x1p20 : 0x1p40
                       : dtype == DType::float16 ? 0x1p9
                                                 : 0x1p6;
    size = random.one_of({1, 1, 1e-3, half ? 30.0 : 1e6});
    mean_.resize(static_cast<std::size_t>(stats));
    deviation_.resize(mean_.size());
    double place = random.one_of({0, 1, 20, far});
    for (std::size_t s = 0; s < mean_.size(); ++s) {
      if (!alike) place = random.one_of({0, 1, 20, far});
      const double n = place * random.normal();
      deviation_[s] = random.one_of({1, 1, 0x1p-7, half ? 16.0 : 1024.0});
      mean_[s] = deviation_[s] * (coarse_ ? std::round(n) : n);  // halves hold the coarse ones
    }
  }

  // ---- Numbers.
  Index stat_of(Index i, Index j) const {
    return kind == Kind::row_verb ? i : in_cols ? j / repeat : 0;
  }
  double mean(Index stat) const { return mean_[static_cast<std::size_t>(stat)]; }
  double deviation(Index stat) const { return deviation_[static_cast<std::size_t>(stat)]; }
  double value(double mean, double deviation) {
    if (special_ > 0 && random.chance(special_)) return special();
    if (constant_) return mean;
    const double n = random.normal();
    return mean + deviation * (coarse_ ? std::round(2 * n) / 2 : n);
  }
  // The last unusual ones are beyond what float32 has room for: see maps.inl.h.
  double parameter(double usual) {
    if (unusual_ == 0 || !random.chance(unusual_)) return usual;
    return random.one_of({0, -0.0, 1, 1e25, -1e-25, 1e30, 1e-30, INFINITY, NAN, 1e-40, -1e60});
  }

  // ---- Memory.
  bool flag(const char* name, double p) {
    const bool set = random.chance(p);
    if (set) text += std::string(" ") + name;
    return set;
  }
  template <class Value>
  View add(const char* name, Use use, DType dtype, Index item, Index n, Index stride, Value value) {
    const Index offset = random.chance(0.4) ? 0 : random.below(32);
    text += std::string(" ") + name + "+" + std::to_string(offset) + "/" + std::to_string(stride);
    buffers.emplace_back(name, use, dtype, item, Place{rows, n, stride, offset}, value);
    return {buffers.back().data(), stride};
  }
  template <class Value>
  View tensor(const char* name, Use use, Value value) {
    const Index stride = stride_of(use);
    return add(name, use, dtype, bnpp::size_of(dtype), cols, stride, value);
  }
  View x(Use use = Use::in) {
    return tensor("x", use, [&](Index i, Index j) {
      const Index s = stat_of(i, j);
      const bool away = outliers_ && i == 0 && (in_cols ? j % repeat : j) < 16;  // a poor shift
      return value(mean(s) + (away ? 1000 : 0) * deviation(s), deviation(s));
    });
  }
  View gradient(const char* name, Use use = Use::in) {
    return tensor(name, use, [&](Index, Index) { return value(0, size); });
  }
  View output(const char* name) { return gradient(name, Use::out); }
  // What make(use) makes, and an output, which may come in its place.
  template <class MakeIn>
  std::pair<View, View> pair(const char* out, MakeIn make) {
    const bool in_place = flag("in place", 0.1);
    const View in = make(in_place ? Use::both : Use::in);
    return {in, in_place ? in : output(out)};
  }
  // Rows of whole bytes, with those of other groups between them; narrow rows have no others.
  MaskView mask(Use use = Use::in, bool narrow = false) {
    const Index bytes = (cols + 7) / 8;
    const Index gap = one_run_ || narrow || random.chance(0.5) ? 0 : random.below(9);
    const View view = add("mask", use, dtype, 1, bytes, bytes + gap, [&](Index, Index j) {
      return static_cast<double>(random.below(1 << std::min<Index>(8, cols - 8 * j)));
    });
    return {static_cast<std::uint8_t*>(view.data), view.stride};
  }
  template <class Value>
  double* numbers(const char* name, Index n, Value value, Use use = Use::in) {
    const Place place{1, n, n, random.below(8)};
    buffers.emplace_back(name, use, DType::float64, Index{sizeof(double)}, place,
                         [&](Index, Index j) { return value(j); });
    return static_cast<double*>(buffers.back().data());
  }
  double* parameters(const char* name, double usual, Use use = Use::in) {
    return numbers(name, stats, [&](Index) { return parameter(usual * random.normal()); }, use);
  }
  double* of_columns(const char* name, Use use = Use::in) {
    return numbers(name, cols, [&](Index) { return parameter(random.normal()); }, use);
  }
  // Numbers of columns as float32.
  const float* singles(const char* name, const double* from) {
    buffers.emplace_back(name, Use::in, DType::float32, Index{sizeof(float)},
                         Place{1, cols, cols, random.below(8)},
                         [&](Index, Index j) { return from[j]; });
    return static_cast<const float*>(buffers.back().data());
  }
  double* sums(const char* name) { return parameters(name, 0, Use::out); }
  bnpp::BlockSums block_sums() {
    return {sums("shift"), sums("s1"), sums("s1_low"), sums("s2"), sums("s2_low")};
  }
  // Centres are float32 numbers, but beside float64. Sums are often taken about 0.
  double* centers() {
    return numbers("center", stats, [&](Index s) {
      const double center = about_zero_ ? 0 : mean(s);
      return parameter(dtype == DType::float64 ? center : static_cast<float>(center));
    });
  }
  double* scales(double of) {
    return numbers("scale", stats, [&](Index s) { return parameter(of * factor / deviation(s)); });
  }
  // Of a coarse tile they are against a term that many of its values have, but for a little: such
  // results are small beside their terms, and of halves computed again.
  double* against(const char* name, double term) {
    return numbers(name, stats, [&](Index) {
      if (!coarse_) return parameter(term * random.normal());
      const double opposite = -term * factor * static_cast<double>(random.below(5) - 2) / 2;
      const auto digits = static_cast<int>(random.below(20));
      return parameter(opposite * (1 + std::ldexp(random.normal(), -8 - digits)));
    });
  }
  // Finite and at least 0, but where they are `unchecked` yet.
  bnpp::WeightsTile weights(bool may_be_per_row, bool unchecked = false) {
    const double zeros = random.one_of({0.1, 0.4, 0.95});
    const auto value = [&](Index, Index) {
      if (random.chance(zeros)) return 0.0;
      if (unchecked && special_ > 0 && random.chance(special_)) return special();
      const double w = std::abs(random.normal());
      return w < 0.5 ? 1.0 : w * random.one_of({1, 1, 1e-20, 1e9});
    };
    bnpp::WeightsTile w{nullptr, 0, may_be_per_row && flag("per_row", 0.5)};
    const DType type = dtype == DType::float64 ? dtype : DType::float32;
    const Index item = bnpp::size_of(type);
    if (w.per_row) {
      buffers.emplace_back("weights", Use::in, type, item, Place{1, rows, 0, random.below(32)},
                           value);
      w.w = buffers.back().data();
    } else {
      const Index stride = stride_of(Use::in);
      const View view = add("weights", Use::in, type, item, cols, stride, value);
      w = {view.data, view.stride, false};
    }
    return w;
  }

 private:
  double special() {
    const double tiny = dtype == DType::float64 ? 5e-310 : dtype == DType::float16 ? 3e-7 : 1e-40;
    const double huge = dtype == DType::float64 ? 1.7e308 : dtype == DType::float16 ? 65e3 : 3e38;
    if (!finite_ && random.chance(0.5)) return random.one_of({NAN, INFINITY, -INFINITY});
    return random.one_of({0, -0.0, tiny, -3 * tiny, huge, -huge, huge / 3});
  }
  // Items from row to row, against the order of memory too; inputs may come again and again, as
  // those of a broadcast dy.
  Index stride_of(Use use) {
    if (rows == 1 && random.chance(0.3)) return 0;  // there is no next row
    const Index draw = one_run_ ? 0 : random.below(8);
    if (draw == 3) return cols + 1 + random.below(40);
    if (draw == 4) return (cols + 31) / 32 * 32;
    if (draw == 5) return (cols + 7) / 8 * 8 + 8 * random.below(4);
    if (draw == 6) return -(cols + random.below(40));
    return draw == 7 && use == Use::in ? 0 : cols;
  }

  bool tiny_ = false, one_run_, coarse_, constant_, outliers_, finite_, about_zero_;
  double special_ = 0, unusual_ = 0;  // how many values, and parameters, are so
  std::vector<double> mean_, deviation_;
};

}  // namespace bnpp_tests
