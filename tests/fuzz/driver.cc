// Runs a fuzz target without libFuzzer: every file of a corpus, then rounds of mutations. A round depends only on seed and number.
//
//   fuzz_x CORPUS [ROUNDS [SEED [FIRST]]]
//
// CORPUS is a folder or a single file; FIRST is the number of the first round, to repeat one that failed. Without ROUNDS the environment
// variable RAY_HIXL_FUZZ_ROUNDS says how many.
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "largest_allocation.h"
#include "require.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" __attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)());

namespace {

using Input = std::vector<std::uint8_t>;
constexpr std::size_t kLongestInput = 4096;

// How to repeat what runs now. Written before it runs, so that a signal handler only has to print it.
char g_repeat[4352];
int g_repeat_size = 0;

void tell_how_to_repeat() {
  if (::write(STDERR_FILENO, g_repeat, static_cast<std::size_t>(g_repeat_size)) < 0) return;
}

void on_signal(int number) {
  tell_how_to_repeat();
  std::signal(number, SIG_DFL);
  std::raise(number);
}

// No input may cost seconds, nor memory out of proportion to its size.
void run(const Input& input) {
  constexpr unsigned kSeconds = 20;
  constexpr std::size_t kBytesPerByte = 64;
  constexpr std::size_t kBytesAnyway = std::size_t{64} << 10;
  ray_hixl::reset_largest_allocation();
  ::alarm(kSeconds);
  LLVMFuzzerTestOneInput(input.data(), input.size());
  ::alarm(0);
  ray_hixl::require(ray_hixl::largest_allocation() <= kBytesAnyway + kBytesPerByte * input.size(),
                    "no allocation is far beyond the input's size");
}

// SplitMix64: small, and good enough to choose mutations.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  std::size_t below(std::size_t bound) { return static_cast<std::size_t>(next() % bound); }  // REQUIRES: bound > 0

 private:
  std::uint64_t state_;
};

// A number of 1, 2, 4 or 8 bytes that is likely to hurt where a length or count is expected.
void write_number(Input& input, Random& random) {
  constexpr std::uint64_t kNumbers[] = {
      0, 1, 2, 7, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff, ~std::uint64_t{0}};
  const std::uint64_t number = kNumbers[random.below(std::size(kNumbers))];
  const std::size_t width = std::size_t{1} << random.below(4);
  const std::size_t at = random.below(input.size());
  for (std::size_t i = 0; i < width && at + i < input.size(); ++i) input[at + i] = static_cast<std::uint8_t>(number >> (8 * i));
}

void insert_copy(Input& input, const Input& from, Random& random) {
  if (from.empty()) return;
  const std::size_t start = random.below(from.size());
  const std::size_t size = 1 + random.below(from.size() - start);
  const Input piece(from.begin() + static_cast<std::ptrdiff_t>(start), from.begin() + static_cast<std::ptrdiff_t>(start + size));
  input.insert(input.begin() + static_cast<std::ptrdiff_t>(random.below(input.size() + 1)), piece.begin(), piece.end());
}

void erase_some(Input& input, Random& random) {
  const std::size_t start = random.below(input.size());
  const std::size_t size = 1 + random.below(input.size() - start);
  input.erase(input.begin() + static_cast<std::ptrdiff_t>(start), input.begin() + static_cast<std::ptrdiff_t>(start + size));
}

void mutate(Input& input, const Input& other, Random& random) {
  const std::size_t kind = input.empty() ? 4 : random.below(8);
  switch (kind) {
    case 0: input[random.below(input.size())] ^= static_cast<std::uint8_t>(1u << random.below(8)); break;
    case 1: input[random.below(input.size())] = static_cast<std::uint8_t>(random.next()); break;
    case 2: write_number(input, random); break;
    case 3: erase_some(input, random); break;
    case 4: insert_copy(input, other, random); break;
    case 5: insert_copy(input, Input(input), random); break;
    case 6: input.resize(random.below(input.size() + 1)); break;
    default:
      input.insert(input.begin() + static_cast<std::ptrdiff_t>(random.below(input.size() + 1)), static_cast<std::uint8_t>(random.next()));
  }
  if (input.size() > kLongestInput) input.resize(kLongestInput);
}

Input mutated(const std::vector<Input>& corpus, std::uint64_t seed, std::uint64_t number) {
  Random random(seed * 0x2545f4914f6cdd1d + number);
  Input input = corpus[random.below(corpus.size())];
  const std::size_t mutations = 1 + random.below(6);
  for (std::size_t i = 0; i < mutations; ++i) mutate(input, corpus[random.below(corpus.size())], random);
  return input;
}

Input read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return Input(std::istreambuf_iterator<char>(file), {});
}

std::vector<std::filesystem::path> files_of(const std::filesystem::path& path) {
  if (!std::filesystem::is_directory(path)) return {path};
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(path)) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

std::uint64_t number_of(int argc, char** argv, int index, std::uint64_t otherwise) {
  return argc > index ? std::strtoull(argv[index], nullptr, 10) : otherwise;
}

std::uint64_t default_rounds() {
  const char* text = std::getenv("RAY_HIXL_FUZZ_ROUNDS");
  return text == nullptr ? 50000 : std::strtoull(text, nullptr, 10);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s CORPUS [ROUNDS [SEED [FIRST]]]\n", argv[0]);
    return 2;
  }
  const std::uint64_t rounds = number_of(argc, argv, 2, default_rounds());
  const std::uint64_t seed = number_of(argc, argv, 3, 1);
  const std::uint64_t first = number_of(argc, argv, 4, 0);
  for (const int number : {SIGABRT, SIGALRM, SIGSEGV, SIGBUS, SIGFPE, SIGILL}) std::signal(number, on_signal);
  if (__sanitizer_set_death_callback != nullptr) __sanitizer_set_death_callback(tell_how_to_repeat);

  std::vector<Input> corpus;
  for (const auto& path : files_of(argv[1])) {
    corpus.push_back(read_file(path));
    g_repeat_size = std::snprintf(g_repeat, sizeof(g_repeat), "repeat with: %s %s\n", argv[0], path.c_str());
    run(corpus.back());
  }
  if (corpus.empty()) {
    std::fprintf(stderr, "%s: no file in %s\n", argv[0], argv[1]);
    return 2;
  }
  for (std::uint64_t number = first; number < first + rounds; ++number) {
    g_repeat_size = std::snprintf(g_repeat, sizeof(g_repeat), "repeat with: %s %s 1 %llu %llu\n", argv[0], argv[1],
                                  static_cast<unsigned long long>(seed), static_cast<unsigned long long>(number));
    run(mutated(corpus, seed, number));
  }
  std::printf("%zu files and %llu mutations of them (seed %llu): nothing found\n", corpus.size(), static_cast<unsigned long long>(rounds),
              static_cast<unsigned long long>(seed));
  return 0;
}
