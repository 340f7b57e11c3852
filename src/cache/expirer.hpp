// The thread that frees expired entries of caches: one for the process, there as long as a cache
// wants it; it sleeps until something is due.
#pragma once

#include <cstdint>

namespace forebay::detail {

struct CacheImpl;

// Throws std::system_error if the process can have no more threads.
void start_expiring(CacheImpl* cache);
// On return the cache is not being looked at, and will not be.
void stop_expiring(CacheImpl* cache) noexcept;
// Something is due earlier than the cache's `awaited`. Call it with no lock held.
void wake_expirer(CacheImpl* cache) noexcept;

}  // namespace forebay::detail
