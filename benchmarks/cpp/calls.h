// What is measured: calls on buffers of their own, made when their turn comes.
#pragma once

#include <functional>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "shapes.h"

enum class Pass { forward, backward, inference };

inline constexpr double kEps = 1e-5;

using Call = std::function<void()>;

/// A library in one layout, and how to get its call for a layer.
struct Peer {
  std::string name, layout;
  bool (*takes)(const Layer&);
  std::function<Call(const Layer&, Pass)> make;
};

std::vector<Peer> bnpp_peers();
std::vector<Peer> onednn_peers();  // none without oneDNN

/// Floats, aligned as the libraries like it, with values from -1 to 1 about `center`.
class Buffer {
 public:
  explicit Buffer(std::int64_t size, float center = 0);
  float* data() { return data_.get(); }
  std::int64_t size() const { return size_; }

 private:
  static constexpr std::align_val_t kAlign{64};
  struct Free {
    void operator()(float* p) const { operator delete[](p, kAlign); }
  };
  std::int64_t size_;
  std::unique_ptr<float[], Free> data_;
};
