// "heavy": two threads take and drop blocks of 16 to 4096 bytes (log-uniform), 200 000 of them
// live, from 768 places in the code, 4 to 19 calls deep; a byte of each is written.
//
// Nothing here asks for tracking, so that the same code runs where there is none.
#pragma once

#include <cstdint>
#include <vector>

#include "forebay/pool.hpp"
#include "tracking/figures.hpp"

namespace forebay::bench {

// Who hands out the blocks.
enum class Supplier {
  malloc,      // whichever one the process has
  pool,        // each block a Buffer
  mapped_pool  // the same, and a std::map of all blocks behind a lock, as RMM's adaptor keeps it
};

// Blocks taken and dropped: cpu_ns of the process a pair, peak_bytes in memory.
Figures heavy_work(Supplier supplier, std::uint64_t pairs);

// So many blocks of that kind from those places.
std::vector<Buffer> heavy_blocks(Pool& pool, std::uint64_t count);

}  // namespace forebay::bench
