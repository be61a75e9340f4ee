#include "transport/hixl/cann/ports.h"

#include "transport/hixl/processes.h"

namespace ray_hixl::test {
namespace {

using transport::hixl::draw_ports;
using transport::hixl::is_taken;
using transport::hixl::Ports;

TEST(HixlPorts, that_somebody_has_at_that_address_are_taken) {
  const PortRange free = two_free_ports();
  EXPECT_FALSE(is_taken("127.0.0.1", free.first));
  const TakenPort taken(free.first);
  ASSERT_TRUE(taken.is_taken());
  EXPECT_TRUE(is_taken("127.0.0.1", free.first));
  EXPECT_FALSE(is_taken("127.9.9.9", free.first)) << "another address";
  EXPECT_FALSE(is_taken("::1", free.first));
  EXPECT_FALSE(is_taken("192.0.2.1", free.first)) << "not of this host, which is for HIXL to say";
  EXPECT_FALSE(is_taken("no address", free.first));
}

TEST(HixlPorts, are_two_of_the_range_of_which_the_hosts_is_free) {
  const PortRange range = two_free_ports();
  for (int round = 0; round < 20; ++round) {
    const std::optional<Ports> drawn = draw_ports("127.0.0.1", range);
    ASSERT_TRUE(drawn);
    EXPECT_TRUE((drawn->host == range.first && drawn->device == range.last) || (drawn->host == range.last && drawn->device == range.first));
  }
  const TakenPort taken(range.first);
  for (int round = 0; round < 20; ++round) EXPECT_EQ(draw_ports("127.0.0.1", range).value_or(Ports{}).host, range.last);
  const TakenPort other(range.last);
  EXPECT_FALSE(draw_ports("127.0.0.1", range));
}

}  // namespace
}  // namespace ray_hixl::test
