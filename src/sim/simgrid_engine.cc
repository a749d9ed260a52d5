#include "sim/simgrid_engine.h"

#include <dlfcn.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <map>
#include <numeric>

#include "base/check.h"
#include "base/figure.h"

// What was learnt about SimGrid 3.32 and is relied on here:
// - Weights: it shares a link in inverse proportion to the latency of a flow's route. So every number of members has a
//   link of its own that limits nobody, with the latency 1 / members; network/latency-factor makes the time of that
//   latency vanish again (a factor of exactly 0 would take the weight with it). That link is SHARED: of a FATPIPE it
//   looks through all flows whenever it has the rate of one, quadratic in them (256 GPUs: minutes, not seconds).
// - The default lazy update gives such weighted flows rates above capacity: network/optim:Full.
// - TCP-gamma bounds rates by the window over the latency, crosstraffic and bandwidth-factor take some percent: off.
// - Comm::sendto searches one list of all communications; mailboxes do not.
namespace fathom {
namespace {

constexpr int kNoLibrary = 3, kNoRoom = 4;  // exit codes of the child

struct Library {
  void (*init)(int*, char**);
  void (*load_platform)(const char*);
  void (*run)();
  double (*clock)();
  void* (*host_by_name)(const char*);
  void* (*actor_create)(const char*, void*, void (*)(int, char**), int, const char* const*);
  void* (*mailbox_by_name)(const char*);
  void* (*put_async)(void*, void*, long);
  void* (*get_async)(void*, void**);
  ssize_t (*wait_any)(void**, size_t);
  int (*wait)(void*);
};

/// In the child only, as actors are plain functions: set once before they run.
struct Child {
  Library lib{};
  const FlowNetwork* network = nullptr;
  int hosts = 0, scale = 0;  // of bytes: 2^scale
  std::vector<double> ended;
};
Child* child = nullptr;

template <class F>
bool find(void* handle, const char* name, F& function) {
  void* symbol = dlsym(handle, name);
  std::memcpy(static_cast<void*>(&function), static_cast<const void*>(&symbol), sizeof symbol);
  return symbol != nullptr;
}

bool load(Library& lib) {
  void* handle = dlopen(kSimGridLibrary, RTLD_NOW | RTLD_LOCAL);
  return handle != nullptr && find(handle, "simgrid_init", lib.init) &&
         find(handle, "simgrid_load_platform", lib.load_platform) && find(handle, "simgrid_run", lib.run) &&
         find(handle, "simgrid_get_clock", lib.clock) && find(handle, "sg_host_by_name", lib.host_by_name) &&
         find(handle, "sg_actor_create_", lib.actor_create) &&
         find(handle, "sg_mailbox_by_name", lib.mailbox_by_name) &&
         find(handle, "sg_mailbox_put_async", lib.put_async) && find(handle, "sg_mailbox_get_async", lib.get_async) &&
         find(handle, "sg_comm_wait_any", lib.wait_any) && find(handle, "sg_comm_wait", lib.wait);
}

/// A class is an ordered pair of different hosts, so that few hosts give every class a route of its own.
std::pair<int, int> hosts_of(int c, int hosts) {
  check(hosts > 1, "a flow has two hosts");
  const int from = c / (hosts - 1), to = c % (hosts - 1);
  return {from, to + (to >= from)};
}

std::string platform(const FlowNetwork& n, int hosts) {
  std::string xml =
      "<?xml version='1.0'?>\n<!DOCTYPE platform SYSTEM \"https://simgrid.org/simgrid.dtd\">\n"
      "<platform version=\"4.1\"><zone id=\"z\" routing=\"Full\">\n";
  char line[200];
  for (int h = 0; h < hosts; ++h) {
    std::snprintf(line, sizeof line, "<host id=\"h%d\" speed=\"1f\"/>\n", h);
    xml += line;
  }
  for (int l = 0; l < n.num_links(); ++l) {
    std::snprintf(line, sizeof line, "<link id=\"l%d\" bandwidth=\"%.17gBps\" latency=\"0s\"/>\n", l, n.gbps(l) * 1e9);
    if (n.gbps(l) > 0) xml += line;
  }
  std::map<double, int> weights;
  for (int c = 0; c < n.num_classes(); ++c) {
    const auto [at, is_new] = weights.try_emplace(n.members(c), static_cast<int>(weights.size()));
    if (!is_new) continue;
    std::snprintf(line, sizeof line,
                  "<link id=\"w%d\" bandwidth=\"1e30Bps\" latency=\"%.17gs\" sharing_policy=\"SHARED\"/>\n", at->second,
                  1 / n.members(c));
    xml += line;
  }
  for (int c = 0; c < n.num_classes(); ++c) {
    const auto [from, to] = hosts_of(c, hosts);
    std::snprintf(line, sizeof line, "<route src=\"h%d\" dst=\"h%d\" symmetrical=\"NO\"><link_ctn id=\"w%d\"/>", from,
                  to, weights[n.members(c)]);
    xml += line;
    for (int l : n.links(c)) xml += "<link_ctn id=\"l" + std::to_string(l) + "\"/>";
    xml += "</route>\n";
  }
  return xml + "</zone></platform>\n";
}

/// A host: starts the classes that end here and those that begin here, and notes when the latter have ended.
void actor(int, char** argv) {
  const int host = std::atoi(argv[1]), classes = child->network->num_classes();
  const Library& lib = child->lib;
  static char message;
  static void* sink;
  std::vector<void*> received, sent;
  std::vector<int> ids;
  char name[32];
  for (int from = 0; from < child->hosts; ++from) {
    if (from == host) continue;
    const int c = from * (child->hosts - 1) + host - (host > from);
    if (c >= classes) break;
    std::snprintf(name, sizeof name, "m%d", c);
    received.push_back(lib.get_async(lib.mailbox_by_name(name), &sink));
  }
  for (int k = 0; k < child->hosts - 1; ++k) {
    const int c = host * (child->hosts - 1) + k;
    if (c >= classes) break;
    std::snprintf(name, sizeof name, "m%d", c);
    sent.push_back(lib.put_async(lib.mailbox_by_name(name), &message,
                                 std::lround(std::ldexp(child->network->bytes(c), child->scale))));
    ids.push_back(c);
  }
  while (!sent.empty()) {
    const ssize_t first = lib.wait_any(sent.data(), sent.size());
    if (first < 0) std::abort();
    // One at a time: asking each of the others whether it has ended too would be a switch to SimGrid and back each.
    const auto at = static_cast<size_t>(first);
    child->ended[static_cast<size_t>(ids[at])] = lib.clock();
    sent[at] = sent.back();
    ids[at] = ids.back();
    sent.pop_back();
    ids.pop_back();
  }
  for (void* comm : received) lib.wait(comm);
}

/// A file without a name: nothing stays behind, however the program ends.
class MemoryFile {
 public:
  MemoryFile() : fd_(memfd_create("fathom-simgrid", MFD_CLOEXEC)) {}
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  ~MemoryFile() {
    if (ok()) close(fd_);
  }
  bool ok() const { return fd_ >= 0; }
  int fd() const { return fd_; }
  std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }
  bool append(const void* data, size_t size) const {
    const char* at = static_cast<const char*>(data);
    while (size > 0) {
      const ssize_t n = write(fd_, at, size);
      if (n <= 0) return false;
      at += n;
      size -= static_cast<size_t>(n);
    }
    return true;
  }

 private:
  int fd_;
};

/// The child's work; never returns. Writes when the classes ended to `ends`.
[[noreturn]] void run_child(const FlowNetwork& network, const std::string& file, int hosts, int scale,
                            const MemoryFile& ends) {
  static Child state;
  child = &state;
  state.network = &network;
  state.hosts = hosts;
  state.scale = scale;
  state.ended.assign(static_cast<size_t>(network.num_classes()), -1);
  if (!load(state.lib)) _exit(kNoLibrary);
  std::vector<std::string> words = {"fathom",
                                    "--cfg=network/model:CM02",
                                    "--cfg=network/optim:Full",
                                    "--cfg=network/weight-S:0",
                                    "--cfg=network/TCP-gamma:1e200",
                                    "--cfg=network/crosstraffic:no",
                                    "--cfg=network/bandwidth-factor:1",
                                    "--cfg=network/latency-factor:1e-15",
                                    "--cfg=contexts/stack-size:64",
                                    "--log=root.thres:error"};
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  auto argc = static_cast<int>(words.size());
  state.lib.init(&argc, argv.data());
  state.lib.load_platform(file.c_str());
  for (int h = 0; h < hosts; ++h) {
    const std::string name = "h" + std::to_string(h), number = std::to_string(h);
    const char* args[] = {"actor", number.c_str(), nullptr};
    state.lib.actor_create(name.c_str(), state.lib.host_by_name(name.c_str()), actor, 2, args);
  }
  state.lib.run();
  if (!ends.append(state.ended.data(), state.ended.size() * sizeof(double))) _exit(kNoRoom);
  _exit(0);
}

/// Up to no end of a class has a link carried more than its capacity.
Status check_capacity(const FlowNetwork& n, const std::vector<double>& ended) {
  std::vector<int> order(ended.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](int a, int b) { return ended[static_cast<size_t>(a)] < ended[static_cast<size_t>(b)]; });
  std::vector<double> carried(static_cast<size_t>(n.num_links()), 0);
  for (size_t k = 0; k < order.size(); ++k) {
    const double now = ended[static_cast<size_t>(order[k])];
    for (int l : n.links(order[k])) carried[static_cast<size_t>(l)] += n.bytes(order[k]);
    for (int l : n.links(order[k])) {
      if (carried[static_cast<size_t>(l)] <= n.gbps(l) * 1e9 * now * (1 + 1e-4)) continue;
      return corrupt("SimGrid put link " + n.link_name(l) + " above its capacity: " +
                     std::to_string(carried[static_cast<size_t>(l)]) + " bytes in " + std::to_string(now) + " s");
    }
  }
  return {};
}

/// By which power of two to multiply bytes, and so times. SimGrid sends whole bytes and knows 1e-9 s: the smallest
/// class should have 2^30 bytes and take a second on the fastest link, but the largest at most 2^62.
Result<int> scale_of(const FlowNetwork& n) {
  double least = std::numeric_limits<double>::infinity(), most = 0, fastest = 0;
  for (int c = 0; c < n.num_classes(); ++c) {
    least = std::min(least, n.bytes(c));
    most = std::max(most, n.bytes(c));
  }
  for (int l = 0; l < n.num_links(); ++l) fastest = std::max(fastest, n.gbps(l) * 1e9);
  const double wanted = std::log2(std::max(0x1p30, fastest) / least), room = 62 - std::log2(most);
  const int scale = static_cast<int>(std::floor(std::min(wanted, room)));
  constexpr double kLeastBytes = 1e5;  // rounded to whole ones within 1e-5
  if (std::ldexp(least, scale) >= kLeastBytes) return scale;
  return invalid("classes of flows from " + figure_text(least) + " to " + figure_text(most) +
                 " bytes; SimGrid counts whole ones: accepted are sizes within a factor of " +
                 figure_text(0x1p62 / kLeastBytes));
}

}  // namespace

Result<FlowRun> run_simgrid(const FlowNetwork& network) {
  if (auto s = network.check(); !s) return s.error();
  const int classes = network.num_classes();
  if (classes > kMostSimGridClasses) {
    return invalid(std::to_string(classes) + " classes of flows; SimGrid is given " +
                   std::to_string(kMostSimGridClasses) + " at most; accepted: engine maxmin or bound, or fewer GPUs");
  }
  FlowRun run;
  if (classes == 0) return run;
  const auto scale = scale_of(network);
  if (!scale) return scale.error();
  const int hosts = static_cast<int>(std::ceil(std::sqrt(static_cast<double>(classes)))) + 1;
  const MemoryFile platform_file, log, ends;
  if (!platform_file.ok() || !log.ok() || !ends.ok()) {
    return io_error(std::string("cannot make a file in memory for SimGrid: ") + std::strerror(errno));
  }
  std::fflush(nullptr);
  const pid_t pid = fork();
  if (pid < 0) return io_error(std::string("cannot start a process for SimGrid: ") + std::strerror(errno));
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);  // it must not outlive the program
    dup2(log.fd(), STDERR_FILENO);
    dup2(log.fd(), STDOUT_FILENO);
    const std::string xml = platform(network, hosts);
    if (!platform_file.append(xml.data(), xml.size())) _exit(kNoRoom);
    run_child(network, platform_file.path(), hosts, *scale, ends);
  }
  int status = 0;
  if (waitpid(pid, &status, 0) < 0) {
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    return cancelled("interrupted while SimGrid ran");
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == kNoLibrary) {
    return not_found(std::string("SimGrid is not installed: ") + kSimGridLibrary +
                     " cannot be loaded; install the Debian package libsimgrid3.32, or take engine maxmin");
  }
  run.ended.assign(static_cast<size_t>(classes), -1);
  const size_t size = run.ended.size() * sizeof(double);
  if (status != 0 || pread(ends.fd(), run.ended.data(), size, 0) != static_cast<ssize_t>(size)) {
    char said[300];
    const ssize_t length = pread(log.fd(), said, sizeof said, 0);
    std::string text(said, static_cast<size_t>(std::max<ssize_t>(length, 0)));
    std::replace(text.begin(), text.end(), '\n', ' ');
    return corrupt("SimGrid failed: " + (text.empty() ? "status " + std::to_string(status) : text));
  }
  for (double& end : run.ended) end = std::ldexp(end, -*scale);
  for (double end : run.ended) run.seconds = std::max(run.seconds, end);
  if (auto s = check_capacity(network, run.ended); !s) return s.error();
  return run;
}

bool has_simgrid() {
  const pid_t pid = fork();
  if (pid == 0) {
    Library lib;
    _exit(load(lib) ? 0 : kNoLibrary);
  }
  int status = 0;
  while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
  return pid > 0 && status == 0;
}

}  // namespace fathom
