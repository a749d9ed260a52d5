// Flags: kinds of options that several verbs have, and the flags of fathom bench serve, which are many. With cli.cc the
// only code that knows CLI11.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

namespace CLI {
class App;
class Option;
class Validator;
}  // namespace CLI

namespace fathom::apps {

struct BenchServeOptions;
struct PlanOptions;
struct ComputeOptions;
struct SamplingFlags;
struct ServeOptions;

inline constexpr int64_t kMost = int64_t{1} << 31;  // tokens, documents, ...: far above any use
inline constexpr const char* kModelNames = "MODEL,-m,--model,--model-path";

/// An integer of the command line (int64_t or uint64_t); its text is judged whole, so that nothing wraps around or
/// saturates.
template <class T>
T integer_of(const std::string& flag, const std::string& text, T least, T most);

/// An option with such an integer; its default is what `value` is.
template <class T>
CLI::Option* add_integer(CLI::App& app, const std::string& name, T& value, T least, std::type_identity_t<T> most,
                         const std::string& help);

/// A number of tokens: an integer, or one with vLLM's units ("32k" is 32,000, "32K" 32,768).
CLI::Option* add_tokens(CLI::App& app, const std::string& name, int64_t& value, int64_t least, int64_t most,
                        const std::string& help);

/// Integers with commas between them.
CLI::Option* add_integers(CLI::App& app, const std::string& name, std::vector<int64_t>& values, int64_t least,
                          int64_t most, const std::string& help);

/// A number of this range, or an error that names it.
CLI::Validator within(double least, double most);

/// A number whose absence matters: empty unless given.
CLI::Option* add_optional(CLI::App& app, const std::string& name, std::optional<double>& value,
                          const std::string& help);

// Each verb has the flags that act on it: one that would be ignored is refused as unknown.
void add_kernels_flag(CLI::App& app, ComputeOptions& options);
void add_machine_flags(CLI::App& app, ComputeOptions& options);  // threads and kernels
void add_precision_flag(CLI::App& app, ComputeOptions& options);
/// What form the weights have and where they are.
void add_weight_flags(CLI::App& app, ComputeOptions& options);
void add_generation_flags(CLI::App& app, ComputeOptions& options, const std::string& chunk_names = "--prompt-chunk");
void add_cache_flag(CLI::App& app, ComputeOptions& options);
/// What a verb says on standard error.
void add_log_flag(CLI::App& app, std::string& log_level);
void add_sampling_flags(CLI::App& app, SamplingFlags& flags);
void add_speculation_flags(CLI::App& app, ComputeOptions& options);
/// All that a verb which generates has.
void add_all_compute_flags(CLI::App& app, ComputeOptions& options);

void add_serve_flags(CLI::App& app, ServeOptions& options);  // serve_flags.cc
/// What fathom bench serve sends, to whom, and how it reports; not how a model computes.
void add_bench_serve_flags(CLI::App& app, BenchServeOptions& options);

void add_plan_flags(CLI::App& app, PlanOptions& options);

/// "nan" is below no bound and above none: no range would refuse it. Of this command and those below it.
void refuse_not_numbers(CLI::App& app);

/// On the command line, and not in a variable of the environment that several verbs read.
bool is_typed(const CLI::Option* option);

}  // namespace fathom::apps
