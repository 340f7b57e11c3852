// The program of the README: a budget, a pool under it, and a scope that lets go.
#include <cstdio>
#include <cstring>
#include <forebay/forebay.hpp>
using namespace forebay::literals;

int main() {
  forebay::Budget server{"server", {.limit = 1_GiB}};
  auto pool = forebay::Pool::create(server.meter(forebay::Device::host()));
  {
    forebay::ReleaseScope scope;
    auto& logits = scope.hold(pool->acquire(64_MiB).value());  // asks the budget first
    auto& hidden = scope.hold(pool->acquire(16_MiB).value());
    std::memset(logits.data(), 1, hidden.size().count());
    std::printf("in use %s of 1 GiB\n", forebay::to_string(pool->stats().live).c_str());
  }                        // both buffers are back in the pool here
  pool->release_unused();  // and here with the system
  std::printf("after the scope %s in use\n", forebay::to_string(server.stats().used).c_str());
}
