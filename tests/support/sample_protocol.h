// SPDX-License-Identifier: BSD-3-Clause
/// A protocol for the mutation run to be tested on: call sites that are needed, redundant and never
/// reached, through wrappers and without.
#pragma once
#include "media/media.h"

namespace chainring::test {

/// A wrapper: each of its calls is a site of its own.
inline void sample_commit(media& m, std::uint64_t* word, std::uint64_t value) {
  m.store_release(word, value);
  m.flush(word, 8); // [S1] needed by both callers
  m.drain();        // [S2] needed by both callers
}

/// A wrapper of a wrapper, through a function pointer as well.
inline void sample_commit_twice(media& m, std::uint64_t* word, bool indirectly) {
  void (*volatile through)(media&, std::uint64_t*, std::uint64_t) = sample_commit;
  if (indirectly)
    through(m, word, 1); // [S3] needed, and seen only when it runs
  else
    sample_commit(m, word, 1); // [S4] needed
}

/// Stores a payload in line 1 and then, durable after it, a commit word in line 0.
inline void sample_append(media& m, bool indirectly, bool never) {
  auto* w = reinterpret_cast<std::uint64_t*>(m.base());
  m.store(&w[9], 6);
  m.store(&w[8], 5);
  m.flush(&w[8], 16);                        // [S5] payload before commit word; pairs with [S6]
  m.drain();                                 // [S6] needed
  sample_commit_twice(m, &w[0], indirectly); // [S7] needed
  sample_commit(m, &w[16], 1);               // [S8] redundant: nobody reads it
  if (never) {
    // a call in a comment: m.flush(x, y); and one in a string:
    static_cast<void>("m.drain()");
    m.flush_read(&w[0], 8); // [S9] unreached
  }
}

} // namespace chainring::test
