#include "hixl/listener.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>

namespace fake_hixl {
namespace {

constexpr std::chrono::seconds kPatience{2};  // with a client that does not take its answer

}  // namespace

Listener::Listener(Fd fd, bool names_are_identities, Greeter greeter)
    : fd_(std::move(fd)), names_are_identities_(names_are_identities), greeter_(std::move(greeter)) {
  int ends[2] = {-1, -1};
  if (::pipe2(ends, O_CLOEXEC) == 0) {
    stop_read_ = Fd(ends[0]);
    stop_write_ = Fd(ends[1]);
  }
  thread_ = std::thread([this] { run(); });
}

Listener::~Listener() {
  stop_write_ = Fd();
  thread_.join();
}

void Listener::run() {
  while (true) {
    std::vector<pollfd> waited = {{stop_read_.get(), POLLIN, 0}, {fd_.get(), POLLIN, 0}};
    for (const auto& client : clients_) waited.push_back({client->fd.get(), POLLIN | POLLRDHUP, 0});
    if (::poll(waited.data(), waited.size(), -1) < 0) continue;
    if (waited[0].revents != 0) return;
    for (std::size_t index = 0; index + 2 < waited.size(); ++index) {
      if (waited[index + 2].revents != 0 && !serve(*clients_[index])) clients_[index]->fd = Fd();
    }
    std::erase_if(clients_, [](const auto& client) { return !client->fd.is_open(); });
    if (waited[1].revents != 0) accept_all();
    count_links();
  }
}

void Listener::accept_all() {
  while (true) {
    Fd fd(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd.is_open()) return;
    clients_.push_back(std::make_unique<Client>());
    clients_.back()->fd = std::move(fd);
  }
}

bool Listener::serve(Client& client) {
  const bool is_there = receive_some(client.fd.get(), client.arrived);
  while (const auto body = take_message(client.arrived)) {
    if (client.is_linked || !greet(client, *body)) return false;
  }
  return is_there;
}

bool Listener::greet(Client& client, const std::string& body) {
  const auto hello = decode_hello(body);
  if (!hello) return false;
  const Welcome welcome = greeter_(*hello, links_);
  client.name = hello->client;
  if (welcome.status == hixl::kSuccess && names_are_identities_) {
    for (const auto& other : clients_) {
      if (other->is_linked && other->name == client.name) other->fd = Fd();
    }
  }
  client.is_linked = welcome.status == hixl::kSuccess;
  count_links();  // before the client knows that it is linked
  return send_message(client.fd.get(), encode(welcome), std::chrono::steady_clock::now() + kPatience) == Outcome::kDone && client.is_linked;
}

void Listener::count_links() {
  links_ = static_cast<std::size_t>(
      std::ranges::count_if(clients_, [](const auto& client) { return client->is_linked && client->fd.is_open(); }));
}

}  // namespace fake_hixl
