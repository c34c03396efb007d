/**
 * The task as it travels on the wire, and the only place that turns unknown JSON into it.
 *
 * Pure: no state, no network, no DOM. A field that is absent on the wire is absent here.
 */

import { number, present, record, text, WireError } from "./json.ts";

export const STATUSES = [
  "pending",
  "processing",
  "cancelling",
  "completed",
  "error",
  "cancelled",
] as const;

export type Status = (typeof STATUSES)[number];

/** One part of a task. `weight` is its share of the whole bar, relative to the other steps. */
export interface Step {
  name: string;
  weight: number;
  /** 0–100; absent while the step is indeterminate. */
  progress?: number;
}

/** When a task will be done: a time (RFC 3339) and seconds from the event that said so. */
export interface Eta {
  at: string;
  seconds: number;
  low?: number;
  high?: number;
}

/** A refusal or failure: an RFC 9457 problem with a stable `code`. */
export interface Problem {
  type?: string;
  title?: string;
  status?: number;
  detail?: string;
  code?: string;
}

export interface Task {
  taskId: string;
  kind: string;
  title?: string;
  userId?: string;
  queue?: string;
  status: Status;
  /** 0–100; absent while the task is indeterminate. */
  progress?: number;
  message?: string;
  current?: number;
  total?: number;
  unit?: string;
  /** Index of the current step in `steps`. */
  step?: number;
  steps?: Step[];
  /** Units a second. */
  rate?: number;
  eta?: Eta;
  stalled: boolean;
  attempt: number;
  maxAttempts?: number;
  createdAt: string;
  startedAt?: string;
  updatedAt?: string;
  finishedAt?: string;
  cursor?: string;
  /** What the submitter gave. Never changes, and is not in the events of a stream. */
  input?: unknown;
  metadata?: unknown;
  /** What the task made; its shape depends on the kind. */
  result?: unknown;
  error?: Problem;
}

/** How many tasks there are of each status. */
export type Counts = Record<Status, number>;

/** One page of the list. */
export interface TaskPage {
  tasks: Task[];
  /** Where the list goes on; absent on its last page. */
  nextPage?: string;
  /** Of all tasks; absent for a person, who sees their own only. */
  counts?: Counts;
}

/** The result of a task of the kind `upload`. */
export interface UploadResult {
  fileName: string;
  /** Bytes. */
  size: number;
  contentType: string;
  blake3: string;
  sha256: string;
  /** Path under which the server gives the file back. */
  file: string;
}

export function isFinal(status: Status): boolean {
  return status === "completed" || status === "error" || status === "cancelled";
}

/** Reads a task from JSON that came from the server. Throws a `WireError` where it is none. */
export function parseTask(value: unknown): Task {
  const fields = record(value);
  if (fields === undefined) throw new WireError("a task is a JSON object");
  const taskId = text(fields, "taskId");
  const status = STATUSES.find((known) => known === fields["status"]);
  if (taskId === undefined) throw new WireError("a task has a taskId");
  if (status === undefined)
    throw new WireError(`task ${taskId} has an unknown status: ${String(fields["status"])}`);
  return {
    taskId,
    status,
    kind: text(fields, "kind") ?? "task",
    stalled: fields["stalled"] === true,
    attempt: number(fields, "attempt") ?? 1,
    createdAt: text(fields, "createdAt") ?? "",
    ...present({
      title: text(fields, "title"),
      userId: text(fields, "userId"),
      queue: text(fields, "queue"),
      progress: number(fields, "progress"),
      message: text(fields, "message"),
      current: number(fields, "current"),
      total: number(fields, "total"),
      unit: text(fields, "unit"),
      step: number(fields, "step"),
      steps: parseSteps(fields["steps"]),
      rate: number(fields, "rate"),
      eta: parseEta(fields["eta"]),
      maxAttempts: number(fields, "maxAttempts"),
      startedAt: text(fields, "startedAt"),
      updatedAt: text(fields, "updatedAt"),
      finishedAt: text(fields, "finishedAt"),
      cursor: text(fields, "cursor"),
      input: fields["input"],
      metadata: fields["metadata"],
      result: fields["result"],
      error: parseProblem(fields["error"]),
    }),
  };
}

/** Reads one page of the list. */
export function parseTaskPage(value: unknown): TaskPage {
  const fields = record(value);
  const tasks = fields?.["tasks"];
  if (fields === undefined || !Array.isArray(tasks))
    throw new WireError("a list of tasks has an array `tasks`");
  const counts = fields["counts"] === undefined ? undefined : parseCounts(fields["counts"]);
  return {
    tasks: tasks.map(parseTask),
    ...present({ nextPage: text(fields, "nextPage"), counts }),
  };
}

/** Reads the counts by status; a status that is not counted has no tasks. */
export function parseCounts(value: unknown): Counts {
  const fields = record(value) ?? {};
  const entries = STATUSES.map((status) => [status, number(fields, status) ?? 0]);
  return Object.fromEntries(entries) as Counts;
}

/** Reads which task is no more. */
export function parseRemoved(value: unknown): string {
  const fields = record(value);
  const taskId = fields && text(fields, "taskId");
  if (taskId === undefined) throw new WireError("a removed task has a taskId");
  return taskId;
}

export function parseProblem(value: unknown): Problem | undefined {
  const fields = record(value);
  if (fields === undefined) return undefined;
  return present({
    type: text(fields, "type"),
    title: text(fields, "title"),
    status: number(fields, "status"),
    detail: text(fields, "detail"),
    code: text(fields, "code"),
  });
}

/** The result of a finished upload, or nothing where the task has none of that shape. */
export function uploadResult(task: Task): UploadResult | undefined {
  const fields = record(task.result);
  if (fields === undefined) return undefined;
  const file = text(fields, "file");
  const size = number(fields, "size");
  if (file === undefined || size === undefined) return undefined;
  return {
    file,
    size,
    fileName: text(fields, "fileName") ?? task.title ?? "",
    contentType: text(fields, "contentType") ?? "application/octet-stream",
    blake3: text(fields, "blake3") ?? "",
    sha256: text(fields, "sha256") ?? "",
  };
}

function parseSteps(value: unknown): Step[] | undefined {
  if (!Array.isArray(value)) return undefined;
  return value.map((item, index) => {
    const fields = record(item) ?? {};
    return {
      name: text(fields, "name") ?? `${index + 1}`,
      weight: number(fields, "weight") ?? 1,
      ...present({ progress: number(fields, "progress") }),
    };
  });
}

function parseEta(value: unknown): Eta | undefined {
  const fields = record(value);
  const at = fields && text(fields, "at");
  const seconds = fields && number(fields, "seconds");
  if (fields === undefined || at === undefined || seconds === undefined) return undefined;
  return { at, seconds, ...present({ low: number(fields, "low"), high: number(fields, "high") }) };
}
