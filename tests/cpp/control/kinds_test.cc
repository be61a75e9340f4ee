#include "control/kinds.h"

#include <gtest/gtest.h>

namespace ray_hixl::control {
namespace {

TEST(TransportKind, every_kind_has_a_name_that_leads_back_to_it) {
  for (std::size_t i = 0; i < kTransportKinds; ++i) {
    const auto kind = static_cast<TransportKind>(i);
    EXPECT_EQ(kind_from_name(kind_name(kind)), kind) << kind_name(kind);
  }
}

TEST(TransportKind, names_are_the_ones_that_users_write) {
  EXPECT_EQ(kind_name(TransportKind::kLocal), "local");
  EXPECT_EQ(kind_name(TransportKind::kShm), "shm");
  EXPECT_EQ(kind_name(TransportKind::kCma), "cma");
  EXPECT_EQ(kind_name(TransportKind::kStream), "stream");
  EXPECT_EQ(kind_name(TransportKind::kHixl), "hixl");
}

TEST(TransportKind, what_is_not_in_the_list_has_no_kind_and_no_name) {
  EXPECT_EQ(kind_from_name(""), std::nullopt);
  EXPECT_EQ(kind_from_name("Local"), std::nullopt);
  EXPECT_EQ(kind_from_name("unknown"), std::nullopt);
  EXPECT_EQ(kind_name(static_cast<TransportKind>(kTransportKinds)), "unknown");
}

}  // namespace
}  // namespace ray_hixl::control
