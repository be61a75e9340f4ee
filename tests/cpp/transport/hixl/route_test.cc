// Ops out of pieces. Addresses are numbers here; nothing is moved.
#include "transport/hixl/route.h"

#include "support/engines.h"
#include "support/sizes.h"

namespace ray_hixl::transport::hixl {
// For tests' messages.
bool operator==(const OpDesc& a, const OpDesc& b) { return a.local == b.local && a.remote == b.remote && a.length == b.length; }
void PrintTo(const OpDesc& op, std::ostream* out) { *out << std::hex << op.remote << "->" << op.local << "+" << op.length; }
}  // namespace ray_hixl::transport::hixl

namespace ray_hixl::test {
namespace {

using namespace transport::hixl;
using control::DeviceRange;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;
using transport::DevicePlace;
using transport::Piece;
using transport::Plan;

constexpr std::uint64_t kHere = 100 * kHugePage;   // of memory here
constexpr std::uint64_t kThere = 500 * kHugePage;  // of the peer's

std::byte* at(std::uint64_t address) { return reinterpret_cast<std::byte*>(address); }

class RouteTest : public testing::Test {
 protected:
  RouteTest() {
    plan.places = {{0, 1, 7}};
    register_local(0, kHere, kHugePage, 3);
  }
  void register_local(std::int32_t device, std::uint64_t address, std::uint64_t length, std::uint64_t epoch) {
    registered[device].push_back({at(address), length, epoch});
  }
  // A piece whose address at the peer is known.
  void add(std::uint64_t local, std::uint64_t remote, std::uint64_t length, std::int32_t place = 0) {
    Piece piece;
    piece.local = at(local);
    piece.address = remote;
    piece.length = length;
    piece.place = place;
    plan.pieces.push_back(piece);
  }
  // A piece of a slot of which the peer told where it lies.
  void add_located(std::uint64_t local, std::uint64_t offset, std::uint64_t length, std::uint32_t source = 0) {
    Piece piece;
    piece.local = at(local);
    piece.offset = offset;
    piece.length = length;
    piece.source = source;
    piece.place = 0;
    plan.pieces.push_back(piece);
    plan.places[0].remote = -1;
  }
  void locate(std::vector<DeviceRange> ranges) {
    auto answer = std::make_shared<control::Located>();
    answer->ranges = std::move(ranges);
    located.push_back(answer);
  }
  Result<std::vector<Route>> make() {
    return make_routes(plan, plan.pieces, located, [this](std::int32_t device, const std::byte* address, std::uint64_t length) {
      ++lookups;
      for (const Registered& each : registered[device]) {
        if (each.holds(address, length)) return std::optional(each);
      }
      return std::optional<Registered>();
    });
  }
  std::vector<OpDesc> ops() {
    const auto routes = make();
    EXPECT_THAT(*routes, SizeIs(1));
    return routes->front().ops;
  }

  Plan plan;
  std::map<std::int32_t, std::vector<Registered>> registered;
  std::vector<Locator::Ranges> located;
  int lookups = 0;
};

TEST_F(RouteTest, makes_one_op_of_neighbours) {
  add(kHere, kThere, 100);
  add(kHere + 100, kThere + 100, 50);
  add(kHere + 150, kThere + 150, 1);
  const auto routes = make();
  ASSERT_THAT(*routes, SizeIs(1));
  const Route& route = routes->front();
  EXPECT_THAT(route.ops, ElementsAre(OpDesc{kHere, kThere, 151}));
  EXPECT_EQ(route.bytes, 151u);
  EXPECT_EQ(route.local, 0);
  EXPECT_EQ(route.remote, 1);
  EXPECT_EQ(route.remote_epoch, 7u);
  EXPECT_EQ(route.local_epoch, 3u);
  EXPECT_EQ(lookups, 1) << "of one registration";
}

TEST_F(RouteTest, keeps_apart_what_is_a_neighbour_on_one_side_only) {
  add(kHere, kThere, 100);
  add(kHere + 100, kThere + 200, 50);
  add(kHere + 300, kThere + 250, 50);
  EXPECT_THAT(ops(), ElementsAre(OpDesc{kHere, kThere, 100}, OpDesc{kHere + 100, kThere + 200, 50}, OpDesc{kHere + 300, kThere + 250, 50}));
}

TEST_F(RouteTest, keeps_apart_what_lies_in_another_order) {
  add(kHere + 100, kThere + 100, 100);
  add(kHere, kThere, 100);
  EXPECT_THAT(ops(), SizeIs(2));
}

TEST_F(RouteTest, moves_the_padding_of_its_own_blocks_along) {
  plan.pads = true;
  add(kHere, kThere + 1024, 100);
  add(kHere + 512, kThere + 1536, 600);
  add(kHere + 512 + 1024, kThere + 1536 + 1024, 1);
  const auto routes = make();
  EXPECT_THAT(routes->front().ops, ElementsAre(OpDesc{kHere, kThere + 1024, 512 + 1024 + 1}));
  EXPECT_EQ(routes->front().bytes, 701u) << "padding is no payload";
}

// What lies between two tensors of a caller is the caller's.
TEST_F(RouteTest, never_writes_between_pieces_of_memory_that_is_not_its_own) {
  add(kHere, kThere, 100);
  add(kHere + 512, kThere + 512, 100);
  EXPECT_THAT(ops(), ElementsAre(OpDesc{kHere, kThere, 100}, OpDesc{kHere + 512, kThere + 512, 100}));
}

TEST_F(RouteTest, takes_no_more_for_padding_than_it_can_be) {
  plan.pads = true;
  add(kHere, kThere, 512);
  add(kHere + 1024, kThere + 1024, 100);              // a whole step behind
  add(kHere + 1024 + 256, kThere + 1024 + 256, 100);  // not at a step
  add(kHere + 2048, kThere + 2048 + 1, 100);          // another distance at the peer
  EXPECT_THAT(ops(), SizeIs(4));
}

TEST_F(RouteTest, keeps_apart_what_lies_in_two_registrations_here) {
  register_local(0, kHere + kHugePage, kHugePage, 9);
  add(kHere + kHugePage - 100, kThere, 100);
  add(kHere + kHugePage, kThere + 100, 100);
  const auto routes = make();
  EXPECT_THAT(routes->front().ops, ElementsAre(OpDesc{kHere + kHugePage - 100, kThere, 100}, OpDesc{kHere + kHugePage, kThere + 100, 100}));
  EXPECT_EQ(routes->front().local_epoch, 9u);
}

TEST_F(RouteTest, keeps_apart_what_lies_in_two_registrations_there) {
  plan.places.push_back({0, 1, 8});
  add(kHere, kThere, 100);
  add(kHere + 100, kThere + 100, 100, 1);
  const auto routes = make();
  ASSERT_THAT(*routes, SizeIs(1));
  EXPECT_THAT(routes->front().ops, SizeIs(2));
  EXPECT_EQ(routes->front().remote_epoch, 8u);
}

TEST_F(RouteTest, leaves_it_to_hixl_to_refuse_what_is_not_registered_here) {
  add(kHere + 10 * kHugePage, kThere, 100);
  const auto routes = make();
  EXPECT_THAT(routes->front().ops, SizeIs(1));
  EXPECT_EQ(routes->front().local_epoch, 0u);
}

TEST_F(RouteTest, makes_a_route_for_each_pair_of_devices) {
  plan.places = {{0, 1, 2}, {0, 0, 3}, {1, 1, 4}};
  register_local(1, kHere, kHugePage, 5);
  add(kHere, kThere, 100, 0);
  add(kHere + 100, kThere, 100, 1);
  add(kHere, kThere + 100, 100, 2);
  add(kHere + 200, kThere + 100, 100, 0);
  const auto routes = make();
  ASSERT_THAT(*routes, SizeIs(3));
  EXPECT_THAT((*routes)[0].ops, SizeIs(2));
  EXPECT_EQ((*routes)[1].remote, 0);
  EXPECT_EQ((*routes)[1].remote_epoch, 3u);
  EXPECT_EQ((*routes)[2].local, 1);
  EXPECT_EQ((*routes)[2].local_epoch, 5u);
}

TEST_F(RouteTest, finds_pieces_in_the_ranges_that_the_peer_told) {
  locate({{0, 1000, 1, 7, kThere}, {1000, 500, 1, 9, kThere + 5 * kHugePage}});
  add_located(kHere, 0, 10);
  add_located(kHere + 1000, 990, 20);
  add_located(kHere + 2000, 1499, 1);
  const auto routes = make();
  ASSERT_THAT(*routes, SizeIs(1));
  EXPECT_THAT(routes->front().ops,
              ElementsAre(OpDesc{kHere, kThere, 10}, OpDesc{kHere + 1000, kThere + 990, 10},
                          OpDesc{kHere + 1010, kThere + 5 * kHugePage, 10}, OpDesc{kHere + 2000, kThere + 5 * kHugePage + 499, 1}));
  EXPECT_EQ(routes->front().remote_epoch, 9u);
}

TEST_F(RouteTest, finds_pieces_of_several_slots) {
  locate({{0, 1000, 1, 7, kThere}});
  locate({{0, 1000, 0, 7, kThere + kHugePage}});
  add_located(kHere, 500, 10, 1);
  add_located(kHere + 10, 500, 10, 0);
  const auto routes = make();
  ASSERT_THAT(*routes, SizeIs(2));
  EXPECT_THAT((*routes)[0].ops, ElementsAre(OpDesc{kHere, kThere + kHugePage + 500, 10}));
  EXPECT_THAT((*routes)[1].ops, ElementsAre(OpDesc{kHere + 10, kThere + 500, 10}));
}

TEST_F(RouteTest, refuses_pieces_that_are_not_in_device_memory_to_their_end) {
  locate({{100, 100, 1, 7, kThere}, {300, 100, 1, 7, kThere + kHugePage}});
  for (const auto& [offset, length] : std::vector<std::pair<std::uint64_t, std::uint64_t>>{
           {0, 10}, {99, 2}, {150, 51}, {200, 100}, {150, 200}, {400, 1}, {399, 2}, {~std::uint64_t{0}, 2}}) {
    plan.pieces.clear();
    add_located(kHere, offset, length);
    const Status status = make().status();
    EXPECT_THAT(status, FailsWith(Code::kInvalidRegion)) << offset;
    EXPECT_THAT(status.message(), HasSubstr(std::to_string(length) + " bytes at offset " + std::to_string(offset)));
  }
}

}  // namespace
}  // namespace ray_hixl::test
