#include "apps/cli.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <optional>
#include <type_traits>

#include "apps/build_info.h"
#include "apps/console.h"
#include "apps/flags.h"
#include "apps/foreign_flags.h"
#include "apps/parse_errors.h"
#include "apps/reference.h"
#include "apps/settings.h"
#include "apps/verbs.h"
#include "base/file_error.h"

namespace fathom::apps {
namespace {

/// What the chosen verb will do; the exit code of the process.
using Action = std::function<Result<int>()>;

constexpr const char* kModelHelp = "model directory, GGUF file, or ORG/NAME in the Hugging Face cache";
constexpr const char* kTokenizerHelp = "directory with tokenizer.json or tiktoken.model, or GGUF file";

class CommandLine {
 public:
  CommandLine() {
    app_.require_subcommand(1);
    app_.set_version_flag("--version", version_text, "version, commit, kernels and compiler");
    app_.footer(
        "Example:\n  fathom chat models/demo\n\nModels: deepseek_v2, deepseek_v3 (V3, R1, V3.1, Moonlight), kimi_k2, "
        "deepseek_v32 (up to index_topk tokens) and glm4_moe_lite, as Hugging Face directories or GGUF files.");
    add_chat();
    add_generate();
    add_serve();
    add_inspect();
    add_plan();
    add_simulate();
    add_quantize();
    add_train();
    add_eval();
    add_tokenizer();
    add_data();
    add_bench();
    add_doctor();
    for (const char* name : {"chat", "generate", "serve", "eval", "bench", "quantize", "inspect", "doctor"}) {
      add_settings_flags(*app_.get_subcommand(name));
    }
    add_reference();
    refuse_not_numbers(app_);
  }

  int run(int argc, char** argv) {
    catch_interrupts();
    std::vector<std::string> arguments(argv + std::min(argc, 1), argv + argc);
    if (!arguments.empty() && arguments.front() == "help") {
      arguments.erase(arguments.begin());
      arguments.emplace_back("--help");
    }
    if (auto s = refuse_foreign_letters(arguments); !s) return report_error(s.error());
    if (!arguments.empty() && arguments.front() == "serve") {
      auto ours = in_our_words({arguments.begin() + 1, arguments.end()});
      if (!ours) return report_error(Error{ours.error().code, ours.error().text + "; see fathom serve --help"});
      arguments.resize(1);
      arguments.insert(arguments.end(), ours->begin(), ours->end());
    }
    std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
    if (const std::optional<int> ended = parse(std::move(arguments))) return *ended;
    const Result<int> exit_code = action_();
    if (!exit_code) {
      std::fflush(stdout);
      return report_error(exit_code.error());
    }
    const int lost = end_of_output();
    return lost != 0 ? lost : *exit_code;
  }

 private:
  /// The verb that the command line has named, the innermost.
  CLI::App* chosen_verb() {
    CLI::App* verb = &app_;
    while (!verb->get_subcommands().empty()) verb = verb->get_subcommands().front();
    return verb;
  }

  /// " (--log-level is FATHOM_LOG_LEVEL)" where the value that `problem` is about came from such a variable.
  static std::string shared_variable(const CLI::App& verb, const std::string& problem) {
    for (const CLI::Option* option : verb.get_options()) {
      const std::string variable = option->get_envname();
      const char* value = variable.empty() ? nullptr : std::getenv(variable.c_str());
      if (value == nullptr || option->results() != std::vector<std::string>{value}) continue;
      const std::string flag = "--" + option->get_lnames().front();
      if (problem.starts_with(flag + ":")) return " (" + flag + " is " + variable + ")";
    }
    return "";
  }

  /// Chooses the action: flags first, then what environment and file add to them. An exit code if that is all.
  std::optional<int> parse(std::vector<std::string> arguments) {
    std::optional<Error> error;
    bool may_be_mended = true;  // by a setting that stands elsewhere
    const auto parse_once = [&] {
      error.reset();
      try {
        app_.parse(std::vector<std::string>(arguments));
        return false;
      } catch (const CLI::ParseError& e) {
        if (e.get_exit_code() == 0) {  // --help, --version
          app_.exit(e);
          return true;
        }
        const auto code = static_cast<CLI::ExitCodes>(e.get_exit_code());
        may_be_mended = code == CLI::ExitCodes::RequiredError || code == CLI::ExitCodes::RequiresError;
        const CLI::App& verb = *chosen_verb();
        error = invalid(parse_error_text(verb, e) + shared_variable(verb, e.what()) + "; see " + full_name(verb) +
                        " --help");
        return false;
      }
    };
    if (parse_once()) return end_of_output();
    CLI::App* verb = chosen_verb();
    if (!has_settings(*verb) || (error && !may_be_mended))
      return error ? std::optional(report_error(*error)) : std::nullopt;
    const auto settings = setting_arguments(app_, *verb);
    if (!settings) return report_error(settings.error());
    std::vector<std::string> added;
    for (const SettingArgument& setting : *settings) added.push_back(setting.argument);
    // CLI11 takes the last first. Behind everything, where a list of values cannot take an argument for one of its own.
    const auto positional_only = std::find(arguments.begin(), arguments.end(), "--");
    const auto at = positional_only == arguments.end() ? arguments.begin() : positional_only + 1;
    arguments.insert(at, added.rbegin(), added.rend());
    if (!added.empty()) parse_once();
    verb = chosen_verb();
    if (verb->count("--print-config") > 0 && (!error || may_be_mended)) {
      std::printf("%s", settings_text(*verb).c_str());
      return end_of_output();
    }
    if (!error) return std::nullopt;
    for (const SettingArgument& setting : *settings) {
      if (error->text.find(setting.flag) == std::string::npos) continue;
      error->text += " (" + setting.flag + " is " + setting.source + ")";
    }
    return report_error(*error);
  }

  /// 0, unless what was printed could not be written.
  static int end_of_output() {
    std::cout.flush();  // CLI11 prints the help with it
    errno = 0;
    const bool lost = std::fflush(stdout) != 0 || std::ferror(stdout) != 0 || !std::cout;
    if (!lost) return 0;
    if (errno != 0) return report_error(file_error("write to", "standard output", errno));
    return report_error(
        io_error("cannot write to standard output: a part of it is lost; is it open, with room where it goes?"));
  }

  /// A verb with its options; `work` does it.
  template <class Options, class Outcome>
  std::pair<CLI::App*, Options*> verb(CLI::App& parent, const std::string& name, const std::string& help,
                                      Outcome (*work)(const Options&), const std::string& example) {
    CLI::App* app = parent.add_subcommand(name, help);
    auto options = std::make_shared<Options>();
    app->footer("Example:\n  " + example);
    app->parse_complete_callback([] {});  // with one, CLI11 reads the variables of this verb only if it was chosen
    app->callback([this, app, options, work] {
      if (!app->get_subcommands().empty()) {  // whose callback has run
        for (const CLI::Option* option : app->get_options(is_typed)) {
          const std::string verb_name = app->get_subcommands().front()->get_name();
          throw CLI::ValidationError(option->get_name(), "is not for " + verb_name + "; give its flags behind it");
        }
        return;
      }
      action_ = [options, work]() -> Result<int> {
        const Outcome outcome = work(*options);
        if (!outcome) return outcome.error();
        if constexpr (std::is_same_v<Outcome, Status>) {
          return 0;
        } else {
          return *outcome;
        }
      };
    });
    return {app, options.get()};
  }

  void add_chat() {
    const auto [app, o] = verb<ChatOptions>(app_, "chat", "talk to a model: a line is a message, /help lists commands",
                                            chat, "fathom chat models/demo --temp 0.7");
    app->add_option(kModelNames, o->model, kModelHelp)->required();
    app->add_option("--system,--system-prompt", o->system, "system message");
    add_integer<int64_t>(*app, "-n,--max-tokens,--n-predict,--max-new-tokens", o->max_tokens, 0, kMost,
                         "tokens of an answer at most; 0: to the end of the context");
    add_sampling_flags(*app, o->sampling);
    add_all_compute_flags(*app, o->compute);
  }

  void add_generate() {
    const auto [app, o] = verb<GenerateOptions>(app_, "generate", "continue a prompt", generate,
                                                "fathom generate models/demo -p \"Once upon a time\" -n 50");
    app->add_option(kModelNames, o->model, kModelHelp)->required();
    CLI::Option* prompt = app->add_option("-p,--prompt", o->prompt, "the prompt");
    app->add_option("-f,--file", o->prompt_file, "read the prompt from a file; -: standard input")->excludes(prompt);
    add_integer<int64_t>(*app, "-n,--max-tokens,--n-predict,--max-new-tokens", o->max_tokens, 1, kMost,
                         "new tokens at most");
    app->add_option("--stop", o->stop, "end before this text; may be given several times")->expected(1)->take_all();
    app->add_flag("--json", o->json, "print the result as JSON at the end instead of streaming text");
    add_sampling_flags(*app, o->sampling);
    add_all_compute_flags(*app, o->compute);
  }

  void add_serve() {
    const auto [app, o] = verb<ServeOptions>(app_, "serve", "OpenAI's API over HTTP for a model", serve,
                                             "fathom serve models/demo --port 8000");
    app->add_option(kModelNames, o->model, kModelHelp)->required();
    add_serve_flags(*app, *o);
  }

  void add_inspect() {
    const auto [app, o] = verb<InspectOptions>(app_, "inspect", "what a model is and whether it fits this machine",
                                               inspect, "fathom inspect models/demo");
    app->add_option(kModelNames, o->model, kModelHelp)->required();
    app->add_option(
        "--quant", o->quant,
        "also the memory that weights kept so would need: bf16, fp8, int8, int4, iq4_nl, mxfp4; classes may "
        "differ: int8,experts=int4; none: as stored");
    app->add_flag("--json", o->json, "everything as JSON");
  }

  void add_plan() {
    const auto [app, o] = verb<PlanOptions>(
        app_, "plan", "what a model needs of a machine and a network, with formulas and sources", plan,
        "fathom plan models/demo --hardware h200 --set serving.gpus=4\n"
        "  fathom plan models/demo --hardware this\n"
        "  fathom plan --set fabric.kind=mpft --set fabric.endpoints=2048\n"
        "  fathom plan --timeline --set training.pipeline=4 --set training.schedule=dualpipe"
        " --set training.micro_batches=10\n"
        "  fathom plan --paper");
    add_plan_flags(*app, *o);
  }

  void add_simulate() {
    const auto [app, o] = verb<SimulateOptions>(
        app_, "simulate", "how long jobs take on a cluster's network, and which links limit them", simulate,
        "fathom simulate examples/scenarios/all-to-all-16384.toml\n"
        "  fathom simulate examples/scenarios/plane-dead.toml --set fail.spread=false\n"
        "  fathom simulate examples/scenarios/all-to-all-16384.toml --engine bound --json\n"
        "  fathom simulate examples/scenarios/message-size.toml --sweep job.bytes=1e5,1e6,1e7,1e8"
        " --report sizes.html");
    app->add_option("SCENARIO", o->scenario,
                    "TOML file: [network], [job], jobs beside it as [also], [also2] to [also15], what is broken as "
                    "[fail], how often something breaks as [failures], "
                    "[prices]; docs/guide-simulate.md lists their keys")
        ->required();
    app->add_option("--set", o->overrides, "override a setting: network.gpus=2048; may be given several times")
        ->expected(1)
        ->take_all();
    app->add_option("--engine", o->engine,
                    "maxmin (exact rates of all flows), bound (the most loaded link), simgrid (needs the package "
                    "libsimgrid3.32), or auto: maxmin, and bound for one job that is too much for it")
        ->check(CLI::IsMember({"auto", "bound", "maxmin", "simgrid"}))
        ->capture_default_str();
    app->add_flag("--check", o->check,
                  "a second engine must agree within 0.01 %: SimGrid with maxmin, maxmin with any other; skipped, with "
                  "the reason, where that is too much work");
    app->add_flag("--print-config", o->print_config, "print the effective scenario and stop");
    CLI::Option* sweep =
        app->add_option("--sweep", o->sweep,
                        "run at each of some values of a setting: job.bytes=1e6,1e7; a second --sweep crosses both")
            ->expected(1)
            ->take_all();
    app->add_option("--report", o->report,
                    "write a page with the answers and drawings of them to this file (.html); JSON and CSV beside it");
    CLI::Option* json = app->add_flag("--json", o->json, "everything as JSON");
    app->add_flag("--csv", o->csv, "the table of --sweep as CSV")->needs(sweep)->excludes(json);
  }

  void add_quantize() {
    const auto [app, o] = verb<QuantizeVerbOptions>(
        app_, "quantize", "write a model directory anew with smaller weights; goes on where it was interrupted",
        quantize, "fathom quantize models/demo demo-int4 --quant int4");
    app->add_option(kModelNames, o->model, "model directory, or ORG/NAME in the Hugging Face cache")->required();
    app->add_option("OUT", o->output, "directory to write; it must not exist")->required();
    app->add_option(
        "--quant", o->quant,
        "bf16, fp8, int8, int4, iq4_nl or mxfp4; classes (attention, dense, shared, experts, head, mtp), their layers "
        "and matrices may differ: int8,experts=int4,experts.3=int8,experts.down=int8");
    app->add_option("--target-bytes", o->target_bytes,
                    "choose the formats, least error within this size of all tensors: 4.5GB, 800MiB")
        ->group("Choosing formats");
    add_optional(*app, "--max-kl", o->max_kl,
                 "choose the smallest formats whose KL to the model in BF16, in nats per token of --calibration, is at "
                 "most this")
        ->check(within(0, 1000))
        ->group("Choosing formats");
    app->add_option("--calibration", o->calibration,
                    "UTF-8 text that the model is run on: errors count by what their inputs carry and by the KL that "
                    "each kind of matrix makes")
        ->group("Choosing formats");
    app->add_option("--max-shard-bytes", o->max_shard_bytes, "size of a file at most, and what an interruption loses")
        ->capture_default_str();
    app->add_flag("--json", o->json, "the result as JSON");
    add_log_flag(*app, o->compute.log_level);
    add_machine_flags(*app, o->compute);
  }

  void add_train() {
    const auto [app, o] = verb<TrainOptions>(
        app_, "train", "train a model from a TOML configuration; resumes where it was stopped", train,
        "mkdir -p runs/pico\n"
        "  fathom data synth -o runs/pico/synth.jsonl --bytes 3000000 --seed 1\n"
        "  fathom tokenizer train runs/pico/synth.jsonl -o runs/pico/tokenizer --vocab-size 1024\n"
        "  fathom data pack runs/pico/synth.jsonl --tokenizer runs/pico/tokenizer"
        " -o runs/pico/train.shard --validation runs/pico/validation.shard\n"
        "  fathom train examples/pico.toml");
    app->add_option("CONFIG", o->config, "TOML file");
    app->add_option("--set", o->overrides, "override a setting: train.steps=200; may be given several times")
        ->expected(1)
        ->take_all();
    app->add_flag("--print-config", o->print_config,
                  "print all settings as such a file, each with its meaning and its variable, and stop");
    app->add_flag("--json", o->json, "the result as JSON");
    add_log_flag(*app, o->compute.log_level);
    add_machine_flags(*app, o->compute);
  }

  void add_eval() {
    const auto [app, o] =
        verb<EvalOptions>(app_, "eval", "bits per byte and perplexity of a text; answers to sums and benchmarks", eval,
                          "fathom eval models/demo --text README.md");
    app->add_option(kModelNames, o->model, kModelHelp)->required();
    app->add_option("-f,--text", o->text, "UTF-8 text, -: standard input; lines \"<|endoftext|>\" separate documents");
    add_integer<int64_t>(*app, "--sums", o->sums, 0, 10000,
                         "ask this many sums that `data synth` never shows, greedily");
    add_integer<uint64_t>(*app, "-s,--seed", o->seed, 0, UINT64_MAX, "seed of the sums");
    add_integer<int64_t>(*app, "--window,-c,--ctx-size", o->window, 0, kMost,
                         "tokens of context; 0: the model's, 2048 at most; with --chunks 512");
    add_integer<int64_t>(*app, "--chunks", o->chunks, -1, kMost,
                         "perplexity as llama-perplexity measures it, of this many chunks of --window tokens, -1: of "
                         "all: each alone, BOS first, its second half scored; 0: every token of whole documents");
    CLI::Option* task =
        app->add_option("--task", o->task, "ask the questions of a benchmark: gsm8k, mmlu_stem, humaneval, mbpp")
            ->group("Benchmark");
    const auto of_task = [&](CLI::Option* option) { option->needs(task)->group("Benchmark"); };
    of_task(app->add_option("--file", o->task_file, "its records, a JSON object a line; -: standard input"));
    of_task(add_integer<int64_t>(*app, "--limit", o->limit, 0, kMost, "questions at most; 0: all"));
    of_task(add_integer<int64_t>(*app, "--shots", o->shots, 0, 1000,
                                 "first records that every prompt shows with their answers, and that are not asked"));
    of_task(add_integer<int64_t>(*app, "-n,--max-tokens", o->max_tokens, 1, kMost, "tokens of an answer at most"));
    of_task(app->add_option("-o,--output", o->output,
                            "write the answers here, a JSON object a line; code as the benchmarks' harnesses read it: "
                            "fathom never executes it"));
    CLI::Option* against = app->add_option(
        "--kl-against", o->kl_against,
        "compare the predictions with those of this model, its KV cache auto: KL, first choices, logits");
    app->add_option("--kl-quant", o->kl_quant, "--quant of that model")->needs(against);
    app->add_flag("--json", o->json, "the result as JSON");
    add_machine_flags(*app, o->compute);
    add_log_flag(*app, o->compute.log_level);
    add_precision_flag(*app, o->compute);
    add_weight_flags(*app, o->compute);
    add_cache_flag(*app, o->compute);
  }

  void add_tokenizer() {
    CLI::App* tokenizer = app_.add_subcommand("tokenizer", "train a tokenizer, encode and decode");
    tokenizer->require_subcommand(1);
    tokenizer->footer("Example:\n  fathom tokenizer encode models/demo \"Hello world\"");
    {
      const auto [app, o] =
          verb<TokenizerTrainOptions>(*tokenizer, "train", "byte-level BPE from text files", tokenizer_train,
                                      "fathom data synth -o synth.jsonl --documents 500\n"
                                      "  fathom tokenizer train synth.jsonl -o tok --vocab-size 512");
      app->add_option("FILES", o->inputs, ".txt, or .jsonl with text or messages")
          ->required()
          ->check(CLI::ExistingFile);
      app->add_option("-o,--output", o->output, "directory for tokenizer.json and tokenizer_config.json")->required();
      add_integer<int64_t>(*app, "--vocab-size", o->vocab_size, 300, 1 << 24, "tokens in all");
      app->add_flag("--split-digits,!--group-digits", o->split_digits, "one digit a token (else up to three)");
      app->add_flag("--json", o->json, "the result as JSON");
      add_log_flag(*app, o->log_level);
    }
    {
      const auto [app, o] = verb<TokenizerCodeOptions>(*tokenizer, "encode", "text to token ids", tokenizer_encode,
                                                       "fathom tokenizer encode models/demo \"Hello world\"");
      app->add_option(kModelNames, o->model, kTokenizerHelp)->required();
      app->add_option("TEXT", o->text, "the text; standard input if absent");
      app->add_flag("--json", o->json, "a JSON array");
    }
    {
      const auto [app, o] = verb<TokenizerCodeOptions>(*tokenizer, "decode", "token ids to text", tokenizer_decode,
                                                       "fathom tokenizer decode models/demo \"72 101\"");
      app->add_option(kModelNames, o->model, kTokenizerHelp)->required();
      app->add_option("IDS", o->text, "ids separated by blanks or commas; standard input if absent");
      app->add_flag("--json", o->json, "a JSON string");
    }
  }

  void add_data() {
    CLI::App* data = app_.add_subcommand("data", "make and pack training data");
    data->require_subcommand(1);
    data->footer("Example:\n  fathom data synth -o synth.jsonl --documents 10000");
    {
      const auto [app, o] = verb<DataSynthOptions>(*data, "synth", "seeded stories, arithmetic, recall and chats",
                                                   data_synth, "fathom data synth -o synth.jsonl --documents 10000");
      app->add_option("-o,--output", o->output, "JSON lines file")->required();
      add_integer<int64_t>(*app, "--documents", o->documents, 0, INT64_MAX, "how many documents");
      add_integer<int64_t>(*app, "--bytes", o->bytes, 0, INT64_MAX, "or how many bytes");
      add_integer<uint64_t>(*app, "-s,--seed", o->seed, 0, UINT64_MAX, "seed");
      app->add_option("--mixture", o->mixture, "weights of story, arithmetic, recall and chat documents")
          ->expected(4)
          ->delimiter(',');
      app->add_flag("--json", o->json, "the result as JSON");
      add_log_flag(*app, o->log_level);
    }
    {
      const auto [app, o] =
          verb<DataPackOptions>(*data, "pack", "text files to a training shard and a validation shard", data_pack,
                                "fathom data synth -o synth.jsonl --documents 500\n"
                                "  fathom tokenizer train synth.jsonl -o tok --vocab-size 512\n"
                                "  fathom data pack synth.jsonl --tokenizer tok -o train.shard --validation val.shard");
      app->add_option("FILES", o->inputs, ".txt (lines \"<|endoftext|>\" separate documents) or .jsonl")->required();
      app->add_option("--tokenizer", o->tokenizer, "directory with tokenizer.json")->required();
      app->add_option("-o,--output", o->output, "training shard")->required();
      app->add_option("--validation", o->validation, "validation shard");
      app->add_option("--validation-fraction", o->validation_fraction, "last part of each file kept for validation")
          ->check(within(0, 0.5))
          ->capture_default_str();
      app->add_flag("--assistant-loss-only", o->assistant_loss_only, "of chats, train on the assistant's words only");
      app->add_flag("--json", o->json, "the result as JSON");
      add_log_flag(*app, o->log_level);
    }
  }

  void add_bench() {
    const auto [app, o] =
        verb<BenchOptions>(app_, "bench", "speed of a model and its share of the machine's limits, or of training",
                           bench, "fathom bench models/demo --prompt 256 --batch 1,4 --depth 0,128");
    CLI::Option* model = app->add_option(kModelNames, o->model, kModelHelp);
    CLI::Option* train =
        app->add_option("--train", o->train_preset, "measure training steps of a preset instead: pico, nano, nano20")
            ->excludes(model);
    add_integers(*app, "--prompt", o->prompt_tokens, 1, kMost, "prompt tokens");
    add_integer<int64_t>(*app, "--decode", o->decode_tokens, 1, kMost, "generated tokens of each sequence");
    add_integers(*app, "--batch", o->batches, 1, 1 << 16, "sequences that generate at once");
    add_integers(*app, "--depth", o->depths, 0, kMost, "tokens in the cache of each before it generates");
    app->add_option("--only", o->only, "prefill or decode")->check(CLI::IsMember({"prefill", "decode"}));
    add_integer<int64_t>(*app, "--repeat", o->repeat, 1, 1000, "runs; the median is shown");
    add_integer<int64_t>(*app, "--read-mib", o->read_mib, 0, 1 << 20,
                         "MiB that are read to measure the memory; 0: 1024, or an eighth of what is free");
    CLI::Option* compare = app->add_option("--compare", o->compare, "an earlier --json report to stand beside");
    add_optional(*app, "--fail-below", o->fail_below, "exit with 1 if new/old of any line is less")
        ->check(within(0, 1000))
        ->needs(compare);
    app->add_flag("--json", o->json, "the result as JSON");
    add_integers(*app, "-t,--threads", o->threads, 0, 1024, "threads; 0: all CPUs")->group("Computing");
    add_kernels_flag(*app, o->compute);
    add_log_flag(*app, o->compute.log_level);
    add_precision_flag(*app, o->compute);
    add_weight_flags(*app, o->compute);
    app->add_option(
           "--also-quant", o->also_quant,
           "the same lines again with other weights, as in --quant (none: as stored); may be given several times")
        ->allow_extra_args(false)
        ->excludes(app->get_option("--in-place"));
    add_generation_flags(*app, o->compute);
    add_cache_flag(*app, o->compute);
    for (const char* flag : {"--prompt", "--decode", "--batch", "--depth", "--only", "--read-mib", "--compare",
                             "--fail-below", "--mla", "--prompt-chunk", "--quant", "--also-quant", "--max-memory",
                             "--keep-prepared", "--in-place", "--kv-cache-dtype"}) {
      app->get_option(flag)->excludes(train);
    }
    add_bench_serve(*app);
  }

  void add_doctor() {
    const auto [app, o] = verb<DoctorOptions>(
        app_, "doctor", "what this machine is, what it can do, and what would make it faster", doctor, "fathom doctor");
    app->add_flag("--no-measure", o->no_measure, "leave out the bandwidth and the dot products: no second of work");
    app->add_flag("--json", o->json, "everything as JSON");
    add_machine_flags(*app, o->compute);
  }

  /// For the build and the installation, not for people: --help leaves it out.
  void add_reference() {
    CLI::App* app = app_.add_subcommand("reference", "write man pages and completions")->group("");
    auto directory = std::make_shared<std::string>();
    app->add_option("DIRECTORY", *directory, "share/ of an installation")->required();
    app->callback([this, directory] {
      action_ = [this, directory]() -> Result<int> {
        if (auto s = write_reference(app_, build_info().version, *directory); !s) return s.error();
        return 0;
      };
    });
  }

  void add_bench_serve(CLI::App& bench) {
    const auto [app, o] = verb<BenchServeOptions>(
        bench, "serve", "a server under load: latencies, throughput, errors", bench_serve,
        "fathom bench serve models/demo --concurrency 4 --num-prompts 16 --input-len 32 --output-len 16");
    add_bench_serve_flags(*app, *o);
    add_all_compute_flags(*app, o->compute);
  }

  CLI::App app_{"fathom: run and train DeepSeek-family models (MLA, MoE, FP8, MTP)", "fathom"};
  Action action_;
};

}  // namespace

int run_command_line(int argc, char** argv) { return CommandLine().run(argc, argv); }

}  // namespace fathom::apps
