// Picks the best usable table once, at the first call; BNPP_ISA in the environment forces one.
// Compiled for the baseline, as all but the kernels are.
#include "runtime/dispatch.h"

#include <atomic>
#include <cstdlib>

#include "bnpp/error.h"
#include "bnpp/runtime.h"

namespace bnpp {

#define BNPP_ISA_ENTRY(name, usable) \
  namespace name {                   \
  extern const KernelTable table;    \
  }
#include "isas.inc"
#undef BNPP_ISA_ENTRY

namespace {

struct Isa {
  const char* name;
  bool (*usable)();
  const KernelTable* table;
};

// Best first, from the bnpp_isa() lines of CMakeLists.txt.
const Isa kIsas[] = {
#define BNPP_ISA_ENTRY(name, usable) {#name, [] { return bool(usable); }, &name::table},
#include "isas.inc"
#undef BNPP_ISA_ENTRY
};

std::atomic<const Isa*> in_use{nullptr};

const Isa& find(std::string_view name, const char* what) {
  std::string usable;
  for (const Isa& isa : kIsas) {
    if (!isa.usable()) continue;
    if (name == isa.name) return isa;
    usable += (usable.empty() ? "" : ", ") + std::string(isa.name);
  }
  throw ValueError(std::string(what) + " is '" + std::string(name) +
                   "', but the instruction sets usable here are " + usable);
}

const Isa& best() {
  if (const char* forced = std::getenv("BNPP_ISA"); forced && *forced) {
    return find(forced, "the environment variable BNPP_ISA");
  }
  for (const Isa& isa : kIsas) {
    if (isa.usable()) return isa;
  }
  throw ValueError("this build of bnpp has no kernels this machine can run");
}

const Isa& current() {
  const Isa* isa = in_use.load(std::memory_order_acquire);
  if (isa == nullptr) {
    // Two threads may both look; both find the same, and a set_isa in between wins.
    const Isa* found = &best();
    if (in_use.compare_exchange_strong(isa, found)) isa = found;
  }
  return *isa;
}

}  // namespace

const KernelTable& kernels() { return *current().table; }

const Verbs& verbs(DType dtype, Layout layout) {
  return kernels().verbs[static_cast<int>(dtype)][static_cast<int>(layout)];
}

const RowVerbs& row_verbs(DType dtype) { return kernels().row_verbs[static_cast<int>(dtype)]; }

std::vector<std::string> usable_isas() {
  std::vector<std::string> names;
  for (const Isa& isa : kIsas) {
    if (isa.usable()) names.emplace_back(isa.name);
  }
  return names;
}

std::string get_isa() { return current().name; }

std::string set_isa(std::string_view name) {
  const Isa& wanted = find(name, "set_isa: name");
  const std::string before = current().name;
  in_use.store(&wanted, std::memory_order_release);
  return before;
}

}  // namespace bnpp
