/**
 * How the numbers of a task are said to a person. Pure; English; decimal units.
 */

import { type Eta, type Status, type Task, uploadResult } from "../client/task.ts";

const BYTE_UNITS = ["B", "kB", "MB", "GB", "TB", "PB"] as const;

/** `1_500_000` → `1.5 MB`. */
export function formatBytes(bytes: number): string {
  let value = Math.max(bytes, 0);
  let unit = 0;
  // 999.5 would be rounded to "1000", so the next unit begins a little earlier.
  while (value >= 999.5 && unit < BYTE_UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const digits = unit > 0 && value < 99.95 ? 1 : 0;
  return `${value.toFixed(digits)} ${BYTE_UNITS[unit] ?? "B"}`;
}

/** Seconds as a person would say them: `8 s`, `2 min 5 s`, `1 h 20 min`. */
export function formatSeconds(seconds: number): string {
  const whole = Math.max(Math.round(seconds), 0);
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 10) return joined(`${minutes} min`, whole % 60, "s");
  const hours = Math.floor(whole / 3600);
  if (hours === 0) return `${Math.round(whole / 60)} min`;
  return joined(`${hours} h`, Math.floor((whole % 3600) / 60), "min");
}

/** Whole percent, rounded down: 100 is only ever shown for a task that is completed. */
export function formatPercent(progress: number): string {
  return `${Math.floor(progress)} %`;
}

/**
 * `5.2 MB of 20 MB`, `3 of 10 rows`; nothing where the task does not count, nor where it is done
 * and its last count says otherwise.
 */
export function formatAmount({ current, total, unit, status }: Task): string | undefined {
  if (current === undefined) return undefined;
  if (status === "completed" && total !== undefined && current !== total) return undefined;
  const say = (value: number) => (unit === "bytes" ? formatBytes(value) : formatNumber(value));
  const suffix = unit === undefined || unit === "bytes" ? "" : ` ${unit}`;
  if (total === undefined) return `${say(current)}${suffix}`;
  return `${say(current)} of ${say(total)}${suffix}`;
}

/** `18.4 MB/s`, `3 rows/s`; nothing where it is not known or says nothing. */
export function formatRate({ rate, unit }: Task): string | undefined {
  if (rate === undefined || rate <= 0) return undefined;
  if (unit === "bytes") return `${formatBytes(rate)}/s`;
  // Steps differ in length, so their number a second means nothing to anybody.
  return unit === undefined || unit === "steps" ? undefined : `${formatNumber(rate)} ${unit}/s`;
}

/** A range where the estimate is wide, one number where it is good. */
export function formatEta({ seconds, low, high }: Eta): string {
  const wide = low !== undefined && high !== undefined && high - low > Math.max(2, seconds / 4);
  if (!wide) return `about ${formatSeconds(seconds)} left`;
  return `${formatSeconds(low)} to ${formatSeconds(high)} left`;
}

/** `Step 1 of 4: receive`, where there is more than one; a name that only counts is left out. */
export function formatStep({ step, steps }: Task): string | undefined {
  if (step === undefined || steps === undefined || steps.length < 2) return undefined;
  const place = `Step ${step + 1} of ${steps.length}`;
  const name = steps[step]?.name ?? "";
  return /^(step)?[\s-]*\d*$/i.test(name) ? place : `${place}: ${name}`;
}

const STATUS_NAMES: Record<Status, string> = {
  pending: "Pending",
  processing: "Processing",
  cancelling: "Cancelling",
  completed: "Completed",
  error: "Error",
  cancelled: "Cancelled",
};

/** The status in one word; a task in processing that went silent is called stalled. */
export function formatStatus({ status, stalled }: Task): string {
  return stalled && status === "processing" ? "Stalled" : STATUS_NAMES[status];
}

/** What to call a task: its title, or the file that it became, or else its kind. */
export function taskName(task: Task): string {
  const names = [task.title, uploadResult(task)?.fileName, task.kind];
  return visible(names.find((name) => name !== undefined && name.trim() !== "") ?? task.taskId);
}

/** What cannot be seen, or turns the order of what can: `invoice_\u202Efdp.exe` is no PDF. */
const UNSEEN = /[\p{Cc}\p{Bidi_Control}\u200B\u2028\u2029\u2060\uFEFF]/gu;

/** Text of others, with the characters that would deceive its reader shown as escapes. */
export function visible(text: string): string {
  return text.replaceAll(UNSEEN, (letter) => {
    const code = letter.codePointAt(0) ?? 0;
    return `\\u${code.toString(16).toUpperCase().padStart(4, "0")}`;
  });
}

/** `14 s ago`. */
export function formatAgo(ms: number): string {
  return `${formatSeconds(ms / 1000)} ago`;
}

/** A time in the reader's own language and zone; nothing for one that cannot be read. */
export function formatTime(time: string | undefined): string | undefined {
  const date = new Date(time ?? Number.NaN);
  if (Number.isNaN(date.getTime())) return undefined;
  return date.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
}

function formatNumber(value: number): string {
  return value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 1 : 0 });
}

function joined(large: string, rest: number, unit: string): string {
  return rest === 0 ? large : `${large} ${rest} ${unit}`;
}
