// CHECK(condition): says where it failed and makes the test fail, but goes on.
#pragma once

#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "bnpp/bnpp.h"

inline int failures = 0;

#define CHECK(condition)                                                   \
  do {                                                                     \
    if (!(condition)) {                                                    \
      std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
      ++failures;                                                          \
    }                                                                      \
  } while (false)

/// Whether `call` throws an Error whose message contains `part`.
template <class Error, class Call>
bool throws(Call call, const std::string& part) {
  try {
    call();
  } catch (const Error& error) {
    const bool found = std::string(error.what()).find(part) != std::string::npos;
    if (!found) std::fprintf(stderr, "message: %s\n", error.what());
    return found;
  }
  return false;
}

template <class T>
std::vector<T> normal(std::size_t n, double mean = 0, unsigned seed = 1) {
  std::mt19937 engine(seed);
  std::normal_distribution<double> distribution(mean, 1);
  std::vector<T> values(n);
  for (T& v : values) v = static_cast<T>(distribution(engine));
  return values;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}
