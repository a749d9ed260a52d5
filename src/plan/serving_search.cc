#include "plan/serving_search.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

#include "base/figure.h"
#include "plan/expert_traffic.h"
#include "plan/limits.h"
#include "plan/search.h"

namespace fathom {
namespace {

// Bounded: a group has no use for more GPUs than experts and their replicas.
std::vector<int64_t> group_sizes(const ModelConfig& c, const Hardware& h, int64_t most) {
  std::vector<int64_t> sizes;
  for (int64_t gpus = 1; gpus < h.gpus_per_node && gpus <= most; gpus *= 2) sizes.push_back(gpus);
  const int64_t experts = std::max<int64_t>(c.n_routed_experts, 1);
  for (int64_t gpus = h.gpus_per_node; gpus <= std::min(most, 2 * experts); gpus += h.gpus_per_node) {
    sizes.push_back(gpus);
  }
  return sizes;
}

int64_t replicas_for(const ModelConfig& c, int64_t gpus) {
  if (c.n_routed_experts == 0) return 0;
  const int64_t over = c.n_routed_experts % gpus;
  return over == 0 ? 0 : gpus - over;
}

// 1, 2, 3, 4, 6, 8, 12 ...
int64_t next_batch(int64_t batch) {
  if (batch < 2) return batch + 1;
  const bool is_power = (batch & (batch - 1)) == 0;
  return is_power ? batch / 2 * 3 : batch / 3 * 4;
}

// Whole groups of `gpus` that keep `busy` GPUs' worth of work going.
int64_t groups_for(double busy, int64_t gpus) {
  return static_cast<int64_t>(std::ceil(busy / as_double(gpus) * (1 - 1e-12)));
}

// GPUs that the load keeps busy.
double busy_decode(const PlanSettings& settings, const DecodePoint& p) {
  return settings.search.qps * settings.search.osl / p.per_gpu();
}
double busy_prefill(const PlanSettings& settings, const PrefillUnit& p) {
  const auto& s = settings.search;
  return s.qps * s.isl * (1 - s.cache_hits) / p.tokens_per_s_per_gpu;
}

// Fewer is better: GPUs in whole groups (0 without a load), then less time of a GPU per token.
std::pair<int64_t, double> cost_of(double busy, int64_t gpus, double tokens_per_s_per_gpu) {
  return {busy > 0 ? groups_for(busy, gpus) * gpus : 0, 1 / tokens_per_s_per_gpu};
}

Result<PrefillUnit> best_prefill(const CountedModel& model, const Hardware& h, const PlanSettings& settings,
                                 const std::vector<int64_t>& sizes) {
  const auto& s = settings.search;
  const ModelConfig& c = model.config;
  // What is there already is not computed, but attended to.
  const TrainingFlops three = training_flops(model.parameters, c, static_cast<int64_t>(s.isl));
  const double flops = (three.matrices + three.causal_attention * (1 + s.cache_hits)) / 3;
  const double compute = flops / (s.utilisation * h.fp8_tflops * 1e12);
  PrefillUnit best;
  double least_ttft = std::numeric_limits<double>::infinity();
  for (int64_t gpus : sizes) {
    const int64_t replicas = replicas_for(c, gpus);
    const auto weights =
        serving_weight_bytes(c, model.elements, gpus, replicas, bytes_of_weight(settings.serving.weights));
    if (!weights) return weights.error();
    if (*weights + serving_kv_bytes(c, settings.serving) * s.isl > h.memory_gb * 1e9 * s.memory_share) continue;
    const ExchangeCost link =
        exchange_cost(model.gate, gpus, h.gpus_per_node, h.nic_effective_gbps, h.scale_up_effective_gbps);
    const auto& serving = settings.serving;
    const double numbers = as_double(model.moe_layers() * c.hidden_size);
    const double exchange = numbers *
                            (transfer_bytes(serving.dispatch, serving) + transfer_bytes(serving.combine, serving)) *
                            link.seconds_per_byte;
    // What the host's pool has is read from there; otherwise it is in HBM already.
    const double host_rate = serving.host_gbps * 1e9;
    const double restore =
        host_rate > 0 ? s.cache_hits * serving_kv_bytes(c, serving) / host_rate : 0;  // of a token of the prompt
    const double shared =
        host_rate > 0 && serving.host_shares_nic
            ? numbers * (bytes_on_wire(serving.dispatch) + bytes_on_wire(serving.combine)) * link.nic_copies / host_rate
            : 0;  // the NIC's bytes of a new token, over the same port
    const double host = restore / (1 - s.cache_hits) + shared;
    const double per_token = std::max({compute, exchange, host});
    const double ttft_ms = s.isl * ((1 - s.cache_hits) * std::max({compute, exchange, shared}) + restore) * 1e3;
    least_ttft = std::min(least_ttft, ttft_ms);
    if (s.max_ttft_ms > 0 && ttft_ms > s.max_ttft_ms) continue;
    const PrefillUnit unit{gpus, replicas, 1 / per_token, ttft_ms,
                           per_token > std::max(compute, exchange) ? "host link"
                           : compute >= exchange                   ? "compute"
                           : link.is_nic                           ? "scale-out network"
                                                                   : "scale-up network"};
    const auto cost = [&](const PrefillUnit& u) {
      return cost_of(busy_prefill(settings, u), u.gpus, u.tokens_per_s_per_gpu);
    };
    if (best.gpus == 0 || cost(unit) < cost(best)) best = unit;
  }
  if (best.gpus > 0) return best;
  if (!std::isfinite(least_ttft)) {
    return invalid("search: no group of up to " + std::to_string(sizes.back()) +
                   " GPUs holds the weights and a prompt of " + figure_text(s.isl) + " tokens; give more GPUs");
  }
  return invalid("search.max_ttft_ms is " + figure_text(s.max_ttft_ms) + ", but the " +
                 figure_text(s.isl * (1 - s.cache_hits)) + " new tokens of a prompt take " + figure_text(least_ttft) +
                 " ms alone on a GPU of the fastest group, at search.utilisation " + figure_text(s.utilisation) +
                 "; give more time, shorter prompts or a higher search.utilisation");
}

Status set_load(ServingSearch& out, const Hardware& h, const PlanSettings& settings, int64_t most) {
  const auto& s = settings.search;
  out.decode_gpus = busy_decode(settings, out.best);
  out.prefill_gpus = busy_prefill(settings, out.prefill);
  out.decode_groups = groups_for(out.decode_gpus, out.best.gpus);
  out.prefill_groups = groups_for(out.prefill_gpus, out.prefill.gpus);
  out.kw = site_kw(h, settings, as_double(out.load_gpus()));
  out.kgco2_per_year = out.kw * 8760 * settings.energy.kg_per_kwh;
  if (out.load_gpus() > most) {
    return invalid("search: the load needs at least " + std::to_string(out.load_gpus()) + " GPUs (decode " +
                   std::to_string(out.decode_groups) + " * " + std::to_string(out.best.gpus) + ", prefill " +
                   std::to_string(out.prefill_groups) + " * " + std::to_string(out.prefill.gpus) + "), more than the " +
                   std::to_string(most) + " of search.gpus; give more, or less load");
  }
  if (s.max_kw > 0 && out.kw > s.max_kw) {
    return invalid("search: the load needs " + figure_text(out.kw) + " kW, more than search.max_kw " +
                   figure_text(s.max_kw));
  }
  if (s.max_kgco2 > 0 && out.kgco2_per_year > s.max_kgco2) {
    return invalid("search: a year of the load makes " + figure_text(out.kgco2_per_year) +
                   " kg CO2, more than search.max_kgco2 " + figure_text(s.max_kgco2));
  }
  return {};
}

std::string text_of(const DecodePoint& p) {
  return std::to_string(p.gpus) + " GPUs, batch " + std::to_string(p.batch) + ", " +
         std::to_string(p.redundant_experts) + " redundant experts";
}

}  // namespace

Result<ServingSearch> search_serving(const CountedModel& model, const Hardware& hardware,
                                     const PlanSettings& settings) {
  if (auto ok = check_search(settings, true); !ok) return ok.error();
  const auto& s = settings.search;
  const bool has_load = s.qps > 0;
  if (has_load && (s.isl < 1 || s.osl < 1 || s.utilisation == 0)) {
    return invalid(
        "search.qps needs search.isl and search.osl (tokens of a prompt and of an answer) and "
        "search.utilisation (share of the FP8 peak that prefill reaches, as 0.5)");
  }
  if ((s.max_kw > 0 || s.max_kgco2 > 0) && !has_load) {
    return invalid("search.max_kw and search.max_kgco2 bound a load: give search.qps, search.isl and search.osl");
  }
  const int64_t most = *std::max_element(s.gpus.begin(), s.gpus.end());
  const std::vector<int64_t> sizes = group_sizes(model.config, hardware, most);
  if (sizes.empty()) return invalid("search.gpus is " + std::to_string(most) + "; accepted: 1 or more");
  PlanSettings::Serving base = settings.serving;
  if (s.isl + s.osl >= 1) base.context = static_cast<int64_t>(std::ceil(s.isl + s.osl));
  Hardware usable = hardware;  // what may be filled
  usable.memory_gb *= s.memory_share;

  ServingSearch out;
  std::vector<DecodePoint> points;
  double least_bytes = std::numeric_limits<double>::infinity();
  for (int64_t gpus : sizes) {
    base.gpus = gpus;
    base.redundant_experts = replicas_for(model.config, gpus);
    for (base.batch = 1; base.batch <= 1 << 20; base.batch = next_batch(base.batch)) {
      const auto step = decode_step(model, usable, base);
      if (!step) return step.error();
      ++out.num_tried;
      least_bytes = std::min(least_bytes, step->weight_bytes + step->buffer_bytes + step->sequence_bytes);
      const DecodePoint point{gpus, base.redundant_experts, base.batch, *step};
      if (!step->holds(as_double(base.batch))) {
        constexpr double kMore = 1.01;
        if (base.batch > 1) points.back().is_full = point.per_gpu() > kMore * points.back().per_gpu();
        break;
      }
      points.push_back(point);
    }
  }
  if (points.empty()) {
    return invalid("search: no group of up to " + std::to_string(sizes.back()) + " GPUs holds the model: at least " +
                   figure_text(least_bytes / 1e9) + " GB a GPU for weights, buffers and one sequence, " +
                   figure_text(usable.memory_gb) + " GB are there; give more GPUs or a smaller serving.weights");
  }
  // Fastest for a user first; among equals the one with most tokens per GPU, then the smallest group.
  const auto order = [](const DecodePoint& p) { return std::tuple(-p.per_user(), -p.per_gpu(), p.gpus, p.batch); };
  std::sort(points.begin(), points.end(),
            [&](const DecodePoint& x, const DecodePoint& y) { return order(x) < order(y); });
  double most_per_gpu = 0;
  for (const DecodePoint& p : points) {
    if (p.per_gpu() <= most_per_gpu * (1 + 1e-9)) continue;  // more than rounding: a link that is full gives no more
    most_per_gpu = p.per_gpu();
    out.front.push_back(p);
  }
  out.points = std::move(points);
  const auto cost = [&](const DecodePoint& p) { return cost_of(busy_decode(settings, p), p.gpus, p.per_gpu()); };
  for (const DecodePoint& p : has_load ? out.points : out.front) {
    if (s.max_tpot_ms > 0 && p.step.tpot_ms() > s.max_tpot_ms) continue;
    if (out.best.step.weight_bytes == 0 || cost(p) < cost(out.best)) out.best = p;
  }
  if (out.best.step.weight_bytes == 0) {
    return invalid("search.max_tpot_ms is " + figure_text(s.max_tpot_ms) + ", but the fastest group takes " +
                   figure_text(out.front.front().step.tpot_ms()) + " ms a token (" + text_of(out.front.front()) +
                   ", limit: " + out.front.front().step.limit() + ")");
  }
  if (s.isl >= 1 && s.utilisation > 0) {
    const auto prefill = best_prefill(model, hardware, settings, sizes);
    if (!prefill) return prefill.error();
    out.prefill = *prefill;
  }
  if (has_load) {
    if (auto ok = set_load(out, hardware, settings, most); !ok) return ok.error();
  }
  return out;
}

FigureGroup summary(const ServingSearch& search, const Hardware& h, const PlanSettings& settings) {
  const DecodePoint& best = search.best;
  const std::string source = "decode bounds, nothing waits in a queue";
  const std::string of = text_of(best) + ", limit: " + best.limit();
  FigureGroup g{"serving layouts", {}};
  const auto add = [&](std::string name, double value, std::string unit, std::string formula) {
    g.figures.push_back({std::move(name), value, std::move(unit), std::move(formula), source});
  };
  add("groups and batches tried", as_double(search.num_tried), "",
      "1, 2, 4 ... GPUs and whole nodes; batches that fit");
  add("GPUs of a decode group", as_double(best.gpus), "", of);
  add("sequences per GPU", as_double(best.batch), "",
      std::string(search.load_gpus() > 0 ? "fewest GPUs in whole groups for the load" : "most tokens per GPU") +
          (settings.search.max_tpot_ms > 0 ? ", within search.max_tpot_ms" : ""));
  if (best.step.host_sequences > 0) {
    add("of them in the host's pool", best.step.host_sequences, "", "read over its link in every step");
  }
  add("TPOT", best.step.tpot_ms(), "ms",
      std::string("the largest of memory, compute") +
          (best.step.host_ms > 0 ? ", network and the host's link" : " and network") +
          (settings.serving.mtp_acceptance > 0 ? ", / (1 + mtp_acceptance): " : ": ") + best.step.limit());
  add("tokens per second and user", best.per_user(), "", "1 / TPOT");
  add("tokens per second and GPU", best.per_gpu(), "", "batch / TPOT");
  add("decode tokens per second and node", best.per_gpu() * h.gpus_per_node, "", "GPUs per node * batch / TPOT");
  const double dollars = settings.serving.gpu_hour_dollars;
  if (dollars > 0)
    add("price per million output tokens", dollars_per_million(dollars, best.per_gpu()), "$", "decode alone");
  if (search.prefill.gpus > 0) {
    const PrefillUnit& p = search.prefill;
    const PlanSettings::Serving& serving = settings.serving;
    const char* host_text = serving.host_gbps == 0    ? ""
                            : serving.host_shares_nic ? ", (KV of cache hits + bytes of the NIC) / host_gbps"
                                                      : ", KV of cache hits / host_gbps";
    add("GPUs of a prefill group", as_double(p.gpus), "",
        std::to_string(p.redundant_experts) + " redundant experts, limit: " + std::string(p.limit));
    add("prefill tokens per second and node", p.tokens_per_s_per_gpu * h.gpus_per_node, "",
        "1 / max(FLOPs / (utilisation * FP8 peak), exchange of " +
            figure_text(transfer_bytes(serving.dispatch, serving)) + " B there and " +
            figure_text(transfer_bytes(serving.combine, serving)) + " B back a number" + host_text + ")" +
            (serving.in_network ? "; in_network saves nothing here: a token goes to each node once anyway" : ""));
    add("time to the first token at least", p.ttft_ms, "ms",
        settings.serving.host_gbps > 0
            ? "isl * ((1 - cache_hits) * time per token + cache_hits * KV per token / host_gbps), alone on its GPU"
            : "isl * (1 - cache_hits) * time per token, alone on its GPU");
  }
  if (search.load_gpus() > 0) {
    const auto groups = [&](const std::string& kind, int64_t num, int64_t gpus, double busy, const char* formula) {
      add(kind + " groups for the load", as_double(num), "", std::string(formula) + " / GPUs of a group, rounded up");
      if (num > 0) add("of them busy: " + kind, 100 * busy / as_double(num * gpus), "%", "load / what the groups do");
    };
    groups("decode", search.decode_groups, best.gpus, search.decode_gpus, "qps * osl / tokens per second and GPU");
    groups("prefill", search.prefill_groups, search.prefill.gpus, search.prefill_gpus,
           "qps * isl * (1 - cache_hits) / tokens per second and GPU");
    add("GPUs for the load", as_double(search.load_gpus()), "", "groups * their GPUs");
    add("nodes for the load", std::ceil(as_double(search.load_gpus()) / h.gpus_per_node), "",
        "GPUs / GPUs of a node, rounded up");
    if (dollars > 0) add("price of a day", as_double(search.load_gpus()) * 24 * dollars, "$", "GPUs * 24 h * dollars");
  }
  if (search.kw > 0) {
    add("power of the site", search.kw, "kW", "GPUs * power * PUE");
    add("energy of a year", search.kw * 8760 / 1e3, "MWh", "power * 8760 h");
  }
  if (search.kgco2_per_year > 0)
    add("carbon of a year", search.kgco2_per_year / 1e3, "t CO2", "power * 8760 h * kg_per_kwh");
  return g;
}

Json to_json(const ServingSearch& search) {
  Json list = Json::array();
  for (const DecodePoint& p : search.front) {
    list.push(Json::object()
                  .set("gpus", p.gpus)
                  .set("redundant_experts", p.redundant_experts)
                  .set("batch", p.batch)
                  .set("tpot_ms", p.step.tpot_ms())
                  .set("memory_ms", p.step.memory_ms)
                  .set("compute_ms", p.step.compute_ms)
                  .set("network_ms", p.step.network_ms)
                  .set("host_ms", p.step.host_ms)
                  .set("limit", p.limit())
                  .set("tokens_per_s_per_user", p.per_user())
                  .set("tokens_per_s_per_gpu", p.per_gpu()));
  }
  return Json::object().set("pareto", std::move(list));
}

std::vector<std::vector<std::string>> table(const ServingSearch& search, int64_t rows) {
  std::vector<std::vector<std::string>> out = {{"GPUs", "redundant", "batch", "TPOT ms", "tokens/s/user",
                                                "tokens/s/GPU", "memory", "compute", "network", "limit"}};
  const int64_t num = static_cast<int64_t>(search.front.size());
  const int64_t shown = std::min(rows, num);
  for (int64_t row = 0; row < shown; ++row) {
    const DecodePoint& p = search.front[static_cast<size_t>(shown == 1 ? num - 1 : row * (num - 1) / (shown - 1))];
    const auto ms = [](double value) { return figure_text(value, 4) + " ms"; };
    out.push_back({std::to_string(p.gpus), std::to_string(p.redundant_experts), std::to_string(p.batch),
                   figure_text(p.step.tpot_ms(), 4), figure_text(p.per_user(), 4), figure_text(p.per_gpu(), 4),
                   ms(p.step.memory_ms), ms(p.step.compute_ms), ms(p.step.network_ms), p.limit()});
  }
  return out;
}

PlanSettings chosen(PlanSettings settings, const DecodePoint& p) {
  settings.serving.gpus = p.gpus;
  settings.serving.redundant_experts = p.redundant_experts;
  settings.serving.batch = p.batch;
  if (settings.search.isl + settings.search.osl >= 1) {
    settings.serving.context = static_cast<int64_t>(std::ceil(settings.search.isl + settings.search.osl));
  }
  settings.search.kind = "none";
  return settings;
}

}  // namespace fathom
