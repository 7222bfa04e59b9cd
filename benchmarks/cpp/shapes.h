// The layers to be measured, from benchmarks/shapes. The Python driver reads the same files.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

/// A layer; height and width are 1 for a matrix (N, C).
struct Layer {
  std::string network, name;
  std::int64_t batch = 0, channels = 0, height = 1, width = 1;
  int times = 1;
  bool matrix = false;

  std::int64_t size() const { return batch * channels * height * width; }

  /// The shape as it lies in memory: "32x64x56x56".
  std::string shape(const std::string& layout) const;
};

/// The layers of every shape file; `batch` for those that have none of their own.
std::vector<Layer> read_layers(std::int64_t batch);
