/**
 * Refusals of the server, and how they are said to a person.
 *
 * Pure but for reading a response body. Knows nothing of tasks, streams or the page.
 */

import { WireError } from "./json.ts";
import { type Problem, parseProblem } from "./task.ts";

/** The server answered, and said no. */
export class ProblemError extends Error {
  override readonly name = "ProblemError";
  readonly status: number;
  readonly problem: Problem;

  constructor(status: number, problem: Problem) {
    super(problem.detail ?? problem.title ?? `the server answered ${status}`);
    this.status = status;
    this.problem = problem;
  }
}

/** Turns an answer that is no success into an error, with the problem document where it has one. */
export async function problemOf(response: Response): Promise<ProblemError> {
  const body = await response.text().catch(() => "");
  return new ProblemError(response.status, parseBody(body) ?? {});
}

/** Whether what was asked for does not exist, or no more. */
export function isGone(error: unknown): boolean {
  return error instanceof ProblemError && (error.status === 404 || error.status === 410);
}

/** One plain sentence for a person. */
export function explain(error: unknown): string {
  if (error instanceof ProblemError) return sentence(explainProblem(error));
  if (error instanceof WireError) return "The server's answer could not be understood.";
  // `fetch` rejects with a TypeError for every failure of the network, and says no more.
  if (error instanceof TypeError || isTimeout(error)) return "The server does not answer.";
  return sentence(error instanceof Error ? error.message : String(error));
}

function isTimeout(error: unknown): boolean {
  return error instanceof DOMException && error.name === "TimeoutError";
}

function explainProblem({ status, problem }: ProblemError): string {
  const said = problem.detail ?? problem.title;
  if (said !== undefined) return said;
  return status >= 500 ? "The server has a problem" : `The server refused this (${status})`;
}

function sentence(words: string): string {
  const trimmed = words.trim();
  const capital = trimmed.charAt(0).toUpperCase() + trimmed.slice(1);
  return /[.!?…]$/.test(capital) ? capital : `${capital}.`;
}

function parseBody(body: string): Problem | undefined {
  try {
    return parseProblem(JSON.parse(body));
  } catch {
    // A proxy's error page is no JSON: the status alone has to do.
    return undefined;
  }
}
