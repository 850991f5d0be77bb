// SPDX-License-Identifier: BSD-3-Clause
// The steps of a cursor that leave its extent; message.h has the others.
#include <algorithm>
#include <cstring>

#include "message/message.h"
#include "message/message_state.h"

namespace chainring {

void message_cursor::next_extent() noexcept {
  const chain c = detail::unpack_extent(list_[next_++]);
  at_ = blocks_->address(c);
  in_extent_ = blocks_->size_of(c);
}

std::uint64_t message_cursor::advance_far(std::uint64_t n) noexcept {
  n = std::min(n, remaining_);
  for (std::uint64_t left = n; left != 0;) {
    const std::uint64_t step = std::min(left, in_extent_);
    at_ += step;
    in_extent_ -= step;
    remaining_ -= step;
    left -= step;
    if (in_extent_ == 0 && remaining_ != 0) {
      if (list_ == nullptr || next_ == count_) { // a cursor made by first() ends with its extent
        remaining_ = 0;
        break;
      }
      next_extent();
    }
  }
  return n;
}

std::uint64_t message_cursor::copy_out_far(void* to, std::uint64_t n) noexcept {
  auto* out = static_cast<std::byte*>(to);
  const std::uint64_t all = n = std::min(n, remaining_);
  while (n != 0) {
    const auto piece = contiguous();
    const std::uint64_t step = std::min<std::uint64_t>(n, piece.size());
    std::memcpy(out, piece.data(), step);
    out += step;
    n -= step;
    advance(step);
  }
  return all;
}

} // namespace chainring
