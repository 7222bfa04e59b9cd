// Registers network:layer:shape:layout:peer:pass for every shape file, and gives Google Benchmark
// its own flags: --benchmark_filter, --benchmark_out and the others.
#include <omp.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "bnpp/bnpp.h"
#include "paired.h"

namespace {

struct Measured {
  Pass pass;
  const char* name;
  double tensors;  // that cannot but be read or written
};
constexpr Measured kPasses[] = {{Pass::forward, "forward", 2},
                                {Pass::backward, "backward", 3},
                                {Pass::inference, "inference", 2}};

void add(const Layer& layer, const Peer& peer, const Measured& measured, const Effort& effort) {
  const auto run = [=](benchmark::State& state) {
    run_paired(state, peer.make(layer, measured.pass), layer.size(), measured.tensors,
               effort.min_time);
    state.counters["times"] = layer.times;
  };
  const std::string name = layer.network + ':' + layer.name + ':' + layer.shape(peer.layout) + ':' +
                           peer.layout + ':' + peer.name + ':' + measured.name;
  benchmark::RegisterBenchmark(name.c_str(), run)
      ->UseManualTime()
      ->Iterations(effort.rounds)
      ->Unit(benchmark::kMicrosecond);
}

/// What Google Benchmark leaves: --batch=, --rounds=, --min-time=.
Effort parse(int argc, char** argv) {
  Effort effort;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const std::size_t equals = word.find('=');
    const std::string key = word.substr(0, equals);
    const double value = equals == std::string::npos ? 0 : std::atof(word.c_str() + equals + 1);
    if (key == "--batch" && value >= 1) {
      effort.batch = static_cast<std::int64_t>(value);
    } else if (key == "--rounds" && value >= 1) {
      effort.rounds = static_cast<int>(value);
    } else if (key == "--min-time" && value > 0) {
      effort.min_time = value;
    } else {
      std::fprintf(stderr, "%s is not one of --batch=32 --rounds=21 --min-time=0.005\n", argv[i]);
      std::exit(2);
    }
  }
  return effort;
}

std::string cpu() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  const Effort effort = parse(argc, argv);
  benchmark::AddCustomContext("cpu", cpu());
  benchmark::AddCustomContext("isa", bnpp::get_isa());
  benchmark::AddCustomContext("threads", std::to_string(bnpp::get_threads()));
  benchmark::AddCustomContext("batch", std::to_string(effort.batch));
  benchmark::AddCustomContext("rounds", std::to_string(effort.rounds));
  benchmark::AddCustomContext("min_time", std::to_string(effort.min_time));
  benchmark::AddCustomContext("compiler", __VERSION__);
  std::vector<Peer> peers = bnpp_peers();
  for (Peer& peer : onednn_peers()) peers.push_back(std::move(peer));
  for (const Layer& layer : read_layers(effort.batch)) {
    for (const Peer& peer : peers) {
      if (!peer.takes(layer)) continue;
      for (const Measured& measured : kPasses) add(layer, peer, measured, effort);
    }
  }
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
