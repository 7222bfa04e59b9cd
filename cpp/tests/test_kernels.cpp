// The kernel check: every entry of every instruction set's table on random tiles, as callers make
// them, against the same entry of `scalar`, bit for bit. What differs is told in one line, with the
// command that runs that tile alone:
//   test_kernels [--seed N] [isa entry number]      as in: test_kernels avx2 affine float16 cols 7
#include <cstdlib>
#include <functional>

#include "runtime/dispatch.h"
#include "tile.h"

namespace {

using namespace bnpp_tests;
using bnpp::KernelTable;
using Call = std::function<void(const KernelTable&)>;

constexpr int kTiles = 160, kShown = 10;  // of an entry: tiles, and failures that are printed

// ---- What is run: an entry of a table with a tile, whose fields come in the order of table.h.

template <class Args>
Call call(const Tile& m, void (*bnpp::Verbs::*verb)(const Args&), const Args& args) {
  return [verb, args, d = static_cast<int>(m.dtype), l = static_cast<int>(m.layout)](
             const KernelTable& table) { (table.verbs[d][l].*verb)(args); };
}
template <class Args>
Call call(const Tile& m, void (*bnpp::RowVerbs::*verb)(const Args&), const Args& args) {
  return [verb, args, d = static_cast<int>(m.dtype)](const KernelTable& table) {
    (table.row_verbs[d].*verb)(args);
  };
}
template <class Args>
Call call(const Tile& m, void (*KernelTable::*entry)(const Args&, Index), const Args& args) {
  return [entry, args, n = m.stats](const KernelTable& table) { (table.*entry)(args, n); };
}

// Not all short rows are narrow: there are those of a last group of channels.
bool narrow(Tile& m) {
  return m.in_cols && m.repeat == 1 && bnpp::is_narrow(m.cols) && m.flag("narrow", 0.75);
}
bool stream(Tile& m) { return m.flag("stream", 0.5); }
bool ahead(Tile& m) { return m.flag("ahead", 0.5); }

Call moments(Tile& m) {
  const View x = m.x();
  return call(m, &bnpp::Verbs::moments,
              {x.data, x.stride, m.rows, m.cols, m.repeat, m.block_sums(), ahead(m), narrow(m)});
}

Call affine(Tile& m) {
  // Whole rows have up to 16384 columns, in runs of a channel each: see Plan::of_whole_rows.
  const bool runs = m.in_cols && m.repeat >= bnpp::kRunColumns && m.flag("whole rows", 0.5);
  if (runs && m.random.chance(0.5)) m.repeat += m.random.below(900);
  if (runs) m.set_shape(m.repeat + m.random.below(3000), 16384);
  const bool wide = !runs && m.flag("wide", 0.15);  // folded maps, without residual, ReLU and mask
  const auto [x, y] = m.pair("y", [&](Use use) { return m.x(use); });
  const View residual = !wide && m.random.chance(0.4) ? m.gradient("residual") : View{};
  const bool relu = !wide && m.flag("relu", 0.5);
  const bool bits = relu && (!runs || m.repeat % 8 == 0) && m.random.chance(0.6);
  const MaskView mask = bits ? m.mask(Use::out) : MaskView{};
  return call(m, &bnpp::Verbs::affine,
              {x.data, residual.data, y.data, mask.data, x.stride, residual.stride, y.stride,
               mask.stride, m.rows, m.cols, m.repeat, m.centers(), m.scales(1),
               m.against("offset", 1), relu, !runs && stream(m), !runs && ahead(m), wide});
}

bnpp::GradSumsTile grad_sums_tile(Tile& m) {
  const bool is_narrow = narrow(m);
  const View dy = m.gradient("dy"), x = m.x();
  const MaskView mask = m.random.chance(0.5) ? m.mask(Use::in, is_narrow) : MaskView{};
  return {dy.data,         x.data,           mask.data, dy.stride, x.stride,
          mask.stride,     m.rows,           m.cols,    m.repeat,  m.centers(),
          m.sums("sum_g"), m.sums("sum_gx"), ahead(m),  is_narrow};
}
Call grad_sums(Tile& m) { return call(m, &bnpp::Verbs::grad_sums, grad_sums_tile(m)); }
Call weighted_grad_sums(Tile& m) {
  return call(m, &bnpp::Verbs::weighted_grad_sums,
              {grad_sums_tile(m), m.weights(true), m.parameters("low", 1e-8)});
}

bnpp::GradInputTile grad_input_tile(Tile& m, bool has_x) {
  const auto [dy, dx] = m.pair("dx", [&](Use use) { return m.gradient("dy", use); });
  const View x = has_x ? m.x() : View{};
  const MaskView mask = m.random.chance(0.5) ? m.mask() : MaskView{};
  const View dresidual = m.random.chance(0.4) ? m.output("dresidual") : View{};
  return {dy.data,
          x.data,
          mask.data,
          dx.data,
          dresidual.data,
          dy.stride,
          x.stride,
          mask.stride,
          dx.stride,
          dresidual.stride,
          m.rows,
          m.cols,
          m.repeat,
          m.centers(),
          m.numbers("a", m.stats, [&](Index) { return m.parameter(m.factor); }),
          m.scales(m.size),
          m.against("c", m.size),
          stream(m),
          ahead(m)};
}
Call grad_input(Tile& m) {
  const bool has_x = m.random.chance(0.75);
  return call(m, &bnpp::Verbs::grad_input, grad_input_tile(m, has_x));
}
Call weighted_grad_input(Tile& m) {
  return call(m, &bnpp::Verbs::weighted_grad_input, {grad_input_tile(m, true), m.weights(true)});
}

Call combine(Tile& m) {
  auto [u, out] = m.pair("out", [&](Use use) { return m.gradient("u", use); });
  if (u.data != out.data && m.random.chance(0.3)) u = {};
  const View v = m.random.chance(0.7) ? m.gradient("v") : View{};
  const View x = m.random.chance(0.7) ? m.x() : View{};
  const MaskView mask = m.random.chance(0.5) ? m.mask() : MaskView{};
  return call(m, &bnpp::Verbs::combine,
              {u.data,
               v.data,
               x.data,
               mask.data,
               out.data,
               u.stride,
               v.stride,
               x.stride,
               mask.stride,
               out.stride,
               m.rows,
               m.cols,
               m.repeat,
               m.centers(),
               m.parameters("a", 1),
               m.parameters("b", 1),
               m.scales(m.size),
               m.parameters("c", m.size),
               m.flag("mask_out", 0.5),
               stream(m),
               ahead(m)});
}

Call weight_sums(Tile& m) {
  // Not checked yet. What channels share is summed up once, as rows.
  return call(m, &bnpp::Verbs::weight_sums,
              {m.weights(!m.in_cols, true), m.rows, m.cols, m.repeat, m.sums("sum"),
               m.sums("sum_squares")});
}

Call weighted_moments(Tile& m) {
  const bnpp::WeightsTile w = m.weights(true);
  const auto weight = [&](Index i, Index j) {
    const Index at = w.per_row ? i : i * w.w_stride + j;
    return m.dtype == DType::float64 ? static_cast<const double*>(w.w)[at]
                                     : static_cast<const float*>(w.w)[at];
  };
  std::vector<double> sum(static_cast<std::size_t>(m.stats));
  for (Index i = 0; i < m.rows; ++i) {
    for (Index j = 0; j < m.cols; ++j)
      sum[static_cast<std::size_t>(m.stat_of(i, j))] += weight(i, j);
  }
  const bool lists = m.in_cols && w.per_row;
  Index rows = lists ? 0 : m.rows;
  for (Index first = 0; lists && first < m.rows; first += bnpp::kRowsListed) {
    const Index end = std::min(first + bnpp::kRowsListed, m.rows);
    bool listed = sum[0] == 0;  // sums of no rows at all would be anything, and are never read
    for (Index i = first; i < end; ++i) listed = listed || weight(i, 0) > 0;
    if (listed) m.start.push_back(static_cast<std::int32_t>(first));
    if (listed) rows += end - first;
  }
  m.start.shrink_to_fit();
  const View x = m.x();
  return call(
      m, &bnpp::Verbs::weighted_moments,
      {{x.data, x.stride, rows, m.cols, m.repeat, m.block_sums(), false, false},
       w,
       m.numbers("count", m.stats, [&](Index s) { return sum[static_cast<std::size_t>(s)]; }),
       lists ? 0 : 1,
       lists ? m.start.data() : nullptr});
}

// ---- Of rows.

Call row_moments(Tile& m) {
  const View x = m.x();
  return call(m, &bnpp::RowVerbs::moments,
              {x.data, x.stride, m.rows, m.cols, 1, m.block_sums(), false, false});
}

Call row_weighted_moments(Tile& m) {
  const View x = m.x();
  const bnpp::WeightsTile w = m.weights(false);
  return call(
      m, &bnpp::RowVerbs::weighted_moments,
      {x.data, w.w, x.stride, w.w_stride, m.rows, m.cols, m.block_sums(), m.sums("weight")});
}

double* shifts(Tile& m) { return m.parameters("shift", m.dtype == DType::float64 ? 1e-17 : 0); }

Call row_affine(Tile& m) {
  const auto [x, y] = m.pair("y", [&](Use use) { return m.x(use); });
  const double *gamma = m.of_columns("gamma"), *beta = m.of_columns("beta");
  bool moderate = true;
  for (Index j = 0; j < m.cols; ++j) {
    moderate = moderate && bnpp::is_in_range(gamma[j]) && bnpp::is_moderate(beta[j]);
  }
  return call(m, &bnpp::RowVerbs::affine,
              {x.data, y.data, x.stride, y.stride, m.rows, m.cols, m.centers(), m.scales(1),
               shifts(m), gamma, beta, m.singles("gamma_single", gamma),
               m.singles("beta_single", beta), moderate, stream(m)});
}

Call row_grad_sums(Tile& m) {
  const View dy = m.gradient("dy"), x = m.x();
  const bnpp::WeightsTile w = m.random.chance(0.4) ? m.weights(false) : bnpp::WeightsTile{};
  return call(m, &bnpp::RowVerbs::grad_sums,
              {dy.data, x.data, w.w, dy.stride, x.stride, w.w_stride, m.rows, m.cols, m.centers(),
               m.of_columns("gamma"), m.sums("sum_h"), m.sums("sum_hx")});
}

Call row_grad_input(Tile& m) {
  const auto [dy, dx] = m.pair("dx", [&](Use use) { return m.gradient("dy", use); });
  const View x = m.x();
  const bnpp::WeightsTile w = m.random.chance(0.4) ? m.weights(false) : bnpp::WeightsTile{};
  const auto added_to = [&](const char* name) { return m.of_columns(name, Use::both); };
  const bool pairs = m.dtype == DType::float64;
  return call(m, &bnpp::RowVerbs::grad_input,
              {dy.data,
               x.data,
               w.w,
               dx.data,
               dy.stride,
               x.stride,
               w.w_stride,
               dx.stride,
               m.rows,
               m.cols,
               m.centers(),
               m.scales(1),
               shifts(m),
               m.parameters("b", m.size),
               m.parameters("c", m.size),
               m.of_columns("gamma"),
               added_to("dgamma"),
               pairs ? added_to("dgamma_low") : nullptr,
               added_to("dbeta"),
               pairs ? added_to("dbeta_low") : nullptr,
               stream(m)});
}

// ---- The algebra of channels, where some of it is done in place.

double* positive(Tile& m, const char* name, Use use) {
  return m.numbers(name, m.stats, [&](Index) { return std::abs(m.value(0, m.size)); }, use);
}
bnpp::MomentsView moments_view(Tile& m, Use use) {
  return {m.parameters("mean", 1e3, use), m.parameters("mean_low", 1e-14, use),
          positive(m, "m2", use), m.parameters("m2_low", 1e-17, use)};
}

Call moments_of_sums(Tile& m) {
  const Use use = m.flag("in place", 0.7) ? Use::both : Use::in;
  const double count = m.random.one_of({1, 2, 49, 0.7, 32768});
  const bnpp::BlockSums s = {m.parameters("shift", 1e3, use), m.parameters("s1", m.size, use),
                             m.parameters("s1_low", 1e-17, use), positive(m, "s2", use),
                             m.parameters("s2_low", 1e-17)};
  bnpp::MomentsView to = {s.shift, s.s1, s.s1_low, s.s2};
  if (use == Use::in) to = moments_view(m, Use::out);
  return [=, n = m.stats](const KernelTable& table) { table.moments_of_sums(s, count, n, to); };
}

Call merge_moments(Tile& m) {
  const bnpp::MomentsView a = moments_view(m, Use::both), b = moments_view(m, Use::in);
  const double n_a = m.random.one_of({1, 0.3, 32768}), n_b = m.random.one_of({1, 7, 1e6});
  return [=, n = m.stats](const KernelTable& table) { table.merge_moments(a, n_a, b, n_b, n); };
}

Call variances(Tile& m) {
  const bool in_place = m.flag("in place", 0.4);
  double* const m2 = positive(m, "m2", in_place ? Use::both : Use::in);
  return call(m, &KernelTable::variances,
              {m2, m.random.one_of({1, 3, 0.4, 1e6}), m.random.one_of({0, 1e-5, 1e-3}),
               in_place ? m2 : m.sums("var"), m.sums("inv_std")});
}

Call centers(Tile& m) {
  return call(m, &KernelTable::centers,
              {m.parameters("mean", 1e3), m.parameters("mean_low", 1e-14), m.flag("float64", 0.4),
               m.sums("center"), m.sums("low")});
}

Call scales(Tile& m) {
  // Offsets may come in the place of `low`, and then scales in that of inv_std.
  const bool low_too = m.flag("offset is low", 0.7), both = low_too && m.flag("both", 0.5);
  double* const inv_std = m.parameters("inv_std", 1, both ? Use::both : Use::in);
  double* const low = m.parameters("low", 1e-8, low_too ? Use::both : Use::in);
  return call(m, &KernelTable::scales,
              {m.parameters("gamma", 1), m.parameters("beta", 1), inv_std, low,
               both ? inv_std : m.sums("scale"), low_too ? low : m.sums("offset")});
}

Call gradients(Tile& m) {
  const auto maybe = [&](const char* name) {
    return m.flag(name, 0.5) ? m.parameters(name, m.size) : nullptr;
  };
  return call(m, &KernelTable::gradients,
              {m.parameters("gamma", 1), m.parameters("inv_std", 1), m.parameters("low", 1e-8),
               m.parameters("sum_g", m.size), maybe("slope"), maybe("mean_grad"), maybe("var_grad"),
               m.random.one_of({1, 3, 0.4, 1e6}), m.parameters("sum_gx", m.size, Use::both),
               m.sums("a"), m.sums("b"), m.sums("c")});
}

// ---- All entries, and their tiles.

using Make = Call (*)(Tile&);
struct Entry {
  std::string name;
  Make make;
  Kind kind;
  DType dtype;
  Layout layout;
};

std::vector<Entry> all_entries() {
  const std::pair<const char*, Make> verbs[] = {{"moments", moments},
                                                {"affine", affine},
                                                {"grad_sums", grad_sums},
                                                {"grad_input", grad_input},
                                                {"combine", combine},
                                                {"weight_sums", weight_sums},
                                                {"weighted_moments", weighted_moments},
                                                {"weighted_grad_sums", weighted_grad_sums},
                                                {"weighted_grad_input", weighted_grad_input}};
  const std::pair<const char*, Make> row_verbs[] = {{"row_moments", row_moments},
                                                    {"row_weighted_moments", row_weighted_moments},
                                                    {"row_affine", row_affine},
                                                    {"row_grad_sums", row_grad_sums},
                                                    {"row_grad_input", row_grad_input}};
  std::vector<Entry> entries;
  for (const DType dtype : {DType::float32, DType::float64, DType::float16, DType::bfloat16}) {
    const std::string type = std::string(" ") + bnpp::name_of(dtype);
    for (const auto& [name, make] : verbs) {
      entries.push_back({name + type + " rows", make, Kind::verb, dtype, Layout::rows});
      entries.push_back({name + type + " cols", make, Kind::verb, dtype, Layout::cols});
    }
    for (const auto& [name, make] : row_verbs) {
      entries.push_back({name + type, make, Kind::row_verb, dtype, Layout::rows});
    }
  }
  const std::pair<const char*, Make> of_channels[] = {{"moments_of_sums", moments_of_sums},
                                                      {"merge_moments", merge_moments},
                                                      {"variances", variances},
                                                      {"centers", centers},
                                                      {"scales", scales},
                                                      {"gradients", gradients}};
  for (const auto& [name, make] : of_channels) {
    entries.push_back({name, make, Kind::channels, DType::float64, Layout::rows});
  }
  return entries;
}

struct Isa {
  std::string name;
  const KernelTable* table;
  int shown = 0;  // failures of an entry
};

// scalar first, and then all others, or the one that is wanted.
std::vector<Isa> isas_to_check(const std::string& wanted) {
  std::vector<Isa> isas;
  for (const std::string& name : bnpp::usable_isas()) {
    if (name != "scalar" && !wanted.empty() && name != wanted) continue;
    bnpp::set_isa(name);
    isas.insert(name == "scalar" ? isas.begin() : isas.end(), {name, &bnpp::kernels()});
  }
  return isas;
}

void check_tile(const Entry& entry, unsigned long long number, unsigned long long seed,
                std::vector<Isa>& isas) {
  std::uint64_t mixed = Random(seed).bits() + number;
  for (const char c : entry.name) mixed = Random(mixed + static_cast<unsigned char>(c)).bits();
  Tile tile(mixed, entry.kind, entry.dtype, entry.layout);
  const Call run = entry.make(tile);
  for (Isa& isa : isas) {
    const bool first = &isa == isas.data();
    for (Buffer& b : tile.buffers) b.prepare(first ? 0x3c : 0xff);  // usual numbers, and then NaN
    run(*isa.table);
    std::string difference;
    for (Buffer& b : tile.buffers) {
      if (difference.empty()) difference = b.difference();
      if (first) b.keep_result();
    }
    if (difference.empty()) continue;
    ++failures;
    if (++isa.shown > kShown) continue;
    std::fprintf(stderr,
                 "%s %s: %s; %td rows, %td cols, repeat %td,%s; again: test_kernels --seed %llu %s "
                 "%s %llu\n",
                 isa.name.c_str(), entry.name.c_str(), difference.c_str(), tile.rows, tile.cols,
                 tile.repeat, tile.text.c_str(), seed, isa.name.c_str(), entry.name.c_str(),
                 number);
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> words(argv + 1, argv + argc);
  unsigned long long seed = 1, number = 0;
  if (words.size() > 1 && words[0] == "--seed") {
    seed = std::strtoull(words[1].c_str(), nullptr, 10);
    words.erase(words.begin(), words.begin() + 2);
  }
  const bool one = !words.empty();
  std::string name;
  for (std::size_t k = 1; k + 1 < words.size(); ++k) name += (k > 1 ? " " : "") + words[k];
  if (one) number = std::strtoull(words.back().c_str(), nullptr, 10);
  std::vector<Isa> isas = isas_to_check(one ? words[0] : "");
  if (isas.empty() || isas[0].name != "scalar") {
    std::fprintf(stderr, "the kernel check compares with 'scalar', but this build is without it\n");
    return 1;
  }
  if (isas.size() == 1 && !one) {
    std::fprintf(stderr, "there is nothing but 'scalar' to check that this machine can run\n");
    return 1;
  }
  if (one && isas.back().name != words[0]) {
    std::fprintf(stderr, "'%s' is not an instruction set usable here\n", words[0].c_str());
    return 1;
  }
  int entries = 0, tiles = 0;
  for (const Entry& entry : all_entries()) {
    if (one && entry.name != name) continue;
    ++entries;
    for (Isa& isa : isas) isa.shown = 0;
    for (unsigned long long n = number; n < (one ? number + 1 : kTiles); ++n, ++tiles) {
      check_tile(entry, n, seed, isas);
    }
  }
  std::printf("%d tiles of %d entries,", tiles, entries);
  for (const Isa& isa : isas) std::printf(" %s", isa.name.c_str());
  std::printf(": %d differ\n", failures);
  return failures != 0 || entries == 0;
}
