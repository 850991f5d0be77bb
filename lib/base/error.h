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
  not_found,        ///< there is no such file, root or object
  exists,           ///< the object exists already
  busy,             ///< another process has the region open
  io,               ///< the operating system failed a call
  corrupt,          ///< the medium holds content that is not valid
  version,          ///< this build does not know a format version, flag or size
  no_space,         ///< the file system or the region is full
  unsupported,      ///< this medium or build does not offer the operation
  read_only,        ///< a write failed earlier, so the region only serves reads
};

[[nodiscard]] const char* to_string(errc code) noexcept;

/// An error, as a sentence that names the object or argument and, where there is one, the remedy.
/// It allocates memory, so only the control path uses it.
struct error {
  errc code{};
  std::string message;
};

/// Makes an error of the sentence and the operating system's text for `errno_value`.
[[nodiscard]] error system_error(errc code, std::string message, int errno_value);

/// A value or an error, for the control path. Calls on the data path return counts and statuses.
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
