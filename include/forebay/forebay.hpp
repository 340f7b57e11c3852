// The C++ door: everything that needs no optional component.
#pragma once

#include "forebay/budget.hpp"
#include "forebay/buffer.hpp"
#include "forebay/bytes.hpp"
#include "forebay/cache.hpp"
#include "forebay/cache_shapes.hpp"
#include "forebay/cache_streams.hpp"
#include "forebay/check.hpp"
#include "forebay/clock.hpp"
#include "forebay/device.hpp"
#include "forebay/governor.hpp"
#include "forebay/model.hpp"
#include "forebay/pool.hpp"
#include "forebay/standard.hpp"
#include "forebay/status.hpp"
#include "forebay/tensor.hpp"
#include "forebay/tracker.hpp"
