// SPDX-License-Identifier: BSD-3-Clause
#pragma once
#include "compiler.h"

#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "assert.h"

namespace chainring {

enum class errc {
  invalid_argument, ///< a caller's argument is out of the accepted range
  not_found,        ///< no such file, root or object
  exists,           ///< it is already there
  busy,             ///< another process has the region open
  io,               ///< the operating system failed a call
  corrupt,          ///< the medium holds something that is not valid
  version,          ///< a format, flag or size this build does not know
  no_space,         ///< the file system or the region is full
  unsupported,      ///< this medium or build cannot do it
  read_only,        ///< a write failed earlier: the region serves reads only
};

[[nodiscard]] const char* to_string(errc code) noexcept;

/// What went wrong, in a sentence that names the object or argument and, where there is one, the
/// remedy. Control path only: it allocates.
struct error {
  errc code{};
  std::string message;
};

/// Adds the text of `errno_value` to a sentence.
[[nodiscard]] error system_error(errc code, std::string message, int errno_value);

/// A value or an error. Control path only; data-path calls return counts and statuses.
template <class T> class [[nodiscard]] result {
 public:
  result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  result(chainring::error e) : state_(std::in_place_index<1>, std::move(e)) {}

  [[nodiscard]] bool ok() const noexcept { return state_.index() == 0; }
  explicit operator bool() const noexcept { return ok(); }
  [[nodiscard]] T& value() & {
    CHAINRING_ASSERT(ok());
    return *std::get_if<0>(&state_);
  }
  [[nodiscard]] const T& value() const& {
    CHAINRING_ASSERT(ok());
    return *std::get_if<0>(&state_);
  }
  [[nodiscard]] T value() && {
    CHAINRING_ASSERT(ok());
    return std::move(*std::get_if<0>(&state_));
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  [[nodiscard]] const chainring::error& error() const {
    CHAINRING_ASSERT(!ok());
    return *std::get_if<1>(&state_);
  }

 private:
  std::variant<T, chainring::error> state_;
};

template <> class [[nodiscard]] result<void> {
 public:
  result() = default;
  result(chainring::error e) : error_(std::move(e)) {}
  [[nodiscard]] bool ok() const noexcept { return !error_; }
  explicit operator bool() const noexcept { return ok(); }
  [[nodiscard]] const chainring::error& error() const {
    CHAINRING_ASSERT(error_.has_value());
    return *error_;
  }

 private:
  std::optional<chainring::error> error_;
};

} // namespace chainring
