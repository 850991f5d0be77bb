// SPDX-License-Identifier: BSD-3-Clause
/// A protocol for the mutation run to be tested on: call sites that are needed, redundant and never
/// reached.
#pragma once
#include "media/media.h"

namespace chainring::test {

/// Stores a payload in line 1 and then, durable after it, a commit word in line 0.
inline void sample_append(media& m, bool never) {
  auto* w = reinterpret_cast<std::uint64_t*>(m.base());
  m.store(&w[8], 5);
  m.store(&w[9], 6);
  m.flush(&w[8], 16); // [S1] payload before commit word; pairs with [S2]
  m.drain();          // [S2] needed
  m.store_release(&w[0], 1);
  m.flush( // [S3] needed: on several lines, with a comment that says m.drain()
      &w[0], 8);
  m.flush(&w[1], 8); // [S4] redundant: the line has been flushed
  m.drain();         // [S5] needed
  if (never) {
    // a call in a comment: m.flush(x, y); and one in a string:
    static_cast<void>("m.drain()");
    m.flush_read(&w[0], 8); // [S6] unreached
  }
}

} // namespace chainring::test
