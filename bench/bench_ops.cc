// Times single operations on the back ends of this machine: the shapes of real steps, the products beside OpenBLAS and
// oneDNN, or the whole table of cases of the tests. Limits are measured in the same run, so each line is a share of
// them.
#include <charconv>
#include <cstdio>
#include <cstring>

#include "base/machine.h"
#include "bench/gemm_peers.h"
#include "bench/op_bench.h"
#include "kernels/registry.h"

namespace fathom::bench {
namespace {

constexpr const char* kUsage =
    "usage: bench_ops [shapes] [gemm] [table] [--kernels NAME,...|all] [--threads N] [--filter TEXT] [--json]\n"
    "  shapes  the shapes that steps of models and of training spend themselves in (default, with gemm)\n"
    "  gemm    products of V2-Lite's layers, beside OpenBLAS and oneDNN where the build found them\n"
    "  table   every operation of tests/kernels/op_cases.h on its small shapes\n"
    "  --kernels all: each level of this machine, and ref for the table; default: the best level\n"
    "  --filter  only operations whose name contains TEXT\n";

struct Options {
  bool shapes = false, gemm = false, table = false, json = false;
  std::vector<std::string> kernels;
  int num_threads = default_num_threads();
  std::string filter;
};

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> out;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    out.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return out;
}

Result<Options> parse(int argc, char** argv) {
  Options out;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "shapes") {
      out.shapes = true;
    } else if (word == "gemm") {
      out.gemm = true;
    } else if (word == "table") {
      out.table = true;
    } else if (word == "--json") {
      out.json = true;
    } else if ((word == "--kernels" || word == "--threads" || word == "--filter") && i + 1 < argc) {
      const std::string value = argv[++i];
      if (word == "--filter") out.filter = value;
      if (word == "--kernels") out.kernels = split(value);
      if (word == "--threads") {
        const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), out.num_threads);
        if (error != std::errc{} || *end != 0 || out.num_threads < 1 || out.num_threads > 1024) {
          return invalid("--threads \"" + value + "\" is not an integer from 1 to 1024");
        }
      }
    } else {
      return invalid("\"" + word + "\" is not understood");
    }
  }
  if (!out.shapes && !out.gemm && !out.table) out.shapes = out.gemm = true;
  if (out.kernels.empty()) out.kernels = {"cpu"};
  if (out.kernels == std::vector<std::string>{"all"}) {
    out.kernels = available_kernels();
    std::erase(out.kernels, "cpu");
  }
  return out;
}

Result<Json> run(const Options& options, std::vector<OpLine>& lines) {
  ThreadPool pool(options.num_threads);
  const auto peers = make_peers(pool.num_threads());
  Json levels = Json::array();
  for (const std::string& name : options.kernels) {
    auto kernels = make_kernels(name, pool);
    if (!kernels) return kernels.error();
    const MachineLimits limits = measure_limits(name, pool);
    const OpBench bench(**kernels, limits, options.filter, lines);
    const bool is_scalar = (*kernels)->name() == "ref";  // seconds for one large product
    if (options.shapes && !is_scalar) bench_shapes(bench);
    if (options.gemm && !is_scalar) bench_gemms(bench, peers);
    if (options.table) bench_table_of_cases(bench);
    levels.push(Json::object()
                    .set("kernels", (*kernels)->name())
                    .set("read_bytes_per_s", limits.read_bytes_per_s)
                    .set("f32_ops_per_s", limits.f32_ops_per_s)
                    .set("bf16_ops_per_s", limits.bf16_ops_per_s)
                    .set("int8_ops_per_s", limits.int8_ops_per_s));
  }
  return levels;
}

}  // namespace
}  // namespace fathom::bench

int main(int argc, char** argv) {
  using namespace fathom;
  using namespace fathom::bench;
  const auto options = parse(argc, argv);
  if (!options) {
    std::fprintf(stderr, "bench_ops: %s\n%s", options.error().text.c_str(), kUsage);
    return 2;
  }
  std::vector<OpLine> lines;
  const auto limits = run(*options, lines);
  if (!limits) {
    std::fprintf(stderr, "bench_ops: %s\n", limits.error().text.c_str());
    return 2;
  }
  if (!options->json) {
    std::printf("%s", text_of(lines).c_str());
    return 0;
  }
  Json json_lines = Json::array();
  for (const OpLine& line : lines) json_lines.push(to_json(line));
  const Json report = Json::object()
                          .set("cpu", inspect_machine().cpu_model)
                          .set("threads", options->num_threads)
                          .set("limits", *limits)
                          .set("lines", json_lines);
  std::printf("%s\n", report.dump(2).c_str());
  return 0;
}
