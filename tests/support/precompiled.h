// SPDX-License-Identifier: BSD-3-Clause
/// What most test programs include and no change to this tree touches. tests/meson.build parses it once for
/// all of them. A test includes what it uses all the same: with -Db_pch=false this file plays no part.
#ifndef CHAINRING_TESTS_PRECOMPILED_H // g++ warns of #pragma once in a header that it precompiles
#define CHAINRING_TESTS_PRECOMPILED_H
// rte_config.h comes first here because libdpdk's flags include it before anything else.
#include <rte_config.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <ranges>
#include <set>
#include <span>
#include <sstream>
#include <string>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_ring.h>
#include <rte_ring_elem.h>
#include <unistd.h>

#endif
