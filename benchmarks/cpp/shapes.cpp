#include "shapes.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace {

Layer parse(const std::string& network, const std::string& line, std::int64_t batch) {
  Layer layer;
  layer.network = network;
  layer.batch = batch;
  std::string spatial;
  char x = 0;
  std::istringstream words(line);
  if (!(words >> layer.name >> layer.channels >> spatial >> layer.times)) {
    throw std::runtime_error(network + ".txt: cannot read the line: " + line);
  }
  std::int64_t own_batch = 0;
  if (words >> own_batch) layer.batch = own_batch;
  layer.matrix = spatial == "-";
  if (!layer.matrix) std::istringstream(spatial) >> layer.height >> x >> layer.width;
  return layer;
}

}  // namespace

std::string Layer::shape(const std::string& layout) const {
  const auto join = [](std::initializer_list<std::int64_t> sizes) {
    std::string text;
    for (std::int64_t size : sizes) text += (text.empty() ? "" : "x") + std::to_string(size);
    return text;
  };
  if (matrix) return join({batch, channels});
  if (layout == "nhwc") return join({batch, height, width, channels});
  return join({batch, channels, height, width});
}

std::vector<Layer> read_layers(std::int64_t batch) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(BNPP_SHAPES)) {
    if (entry.path().extension() == ".txt") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  std::vector<Layer> layers;
  for (const auto& path : files) {
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) {
      line.erase(std::min(line.find('#'), line.size()));
      if (line.find_first_not_of(" \t\r") != std::string::npos) {
        layers.push_back(parse(path.stem().string(), line, batch));
      }
    }
  }
  return layers;
}
