// Many callers at once: each gets the bits a lone caller gets, also while the instruction set
// changes.
#include <thread>

#include "check.h"

namespace {

using bnpp::dense;

std::vector<float> forward(const std::vector<float>& x) {
  std::vector<float> y(x.size());
  bnpp::BatchNormArgs args;
  args.x = dense(x.data(), {8, 16, 500});
  args.y = dense(y.data(), {8, 16, 500});
  bnpp::batch_norm(args);
  return y;
}

}  // namespace

int main() {
  bnpp::set_min_work(1);
  const std::vector<float> x = normal<float>(8 * 16 * 500, 100);
  const std::vector<float> expected = forward(x);
  std::vector<std::vector<float>> results(8);
  std::vector<std::thread> callers;
  for (std::size_t i = 0; i < results.size(); ++i) {
    callers.emplace_back([&, i] {
      bnpp::set_thread_limit(1 + static_cast<int>(i) % 3);
      for (int repeat = 0; repeat < 5; ++repeat) results[i] = forward(x);
    });
  }
  for (const std::string& isa : bnpp::usable_isas()) bnpp::set_isa(isa);
  for (std::thread& caller : callers) caller.join();
  for (const std::vector<float>& result : results) CHECK(same_bits(result, expected));

  CHECK(bnpp::usable_isas().back() == "scalar");
  CHECK(bnpp::set_thread_limit(3) == 0);
  CHECK(bnpp::get_threads() == 3);
  return failures != 0;
}
