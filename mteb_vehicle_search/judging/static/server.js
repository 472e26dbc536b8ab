// What is asked of the server. A failure is a Trouble: what to tell the judge, and of which kind it is.

export class Trouble extends Error {
  /** @param {"gone" | "elsewhere" | "useless" | "unwritten" | "refused"} kind */
  constructor(kind, message) {
    super(message);
    this.kind = kind;
  }
}

const KINDS = { 400: "useless", 404: "useless", 409: "elsewhere", 500: "unwritten", 507: "unwritten" };
const GONE = "The program does not answer. Start it again: vehicle-search judge";
const PATIENCE_MS = 15000;
// Of this load of the page; the server takes answers from the tab that asked last.
export const TAB = crypto.randomUUID();

async function ask(path, options) {
  let response, content;
  try {
    response = await fetch(path, { ...options, cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
    content = await response.json();
  } catch {
    // Nobody is there, or whoever was has ended in mid-sentence; or it was no answer to this page.
    if (response?.status === 403) throw new Trouble("refused", "Open the address that the program printed.");
    throw new Trouble("gone", GONE);
  }
  if (!response.ok) throw new Trouble(KINDS[response.status] ?? "refused", content.error);
  return content;
}

function post(path, content) {
  return ask(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(content) });
}

export const getSession = () => ask(`/api/session?tab=${TAB}`);
export const getSummary = () => ask("/api/summary");
export const sendAnswer = (answer) => post("/api/answer", { ...answer, tab: TAB });
export const finish = () => post("/api/finish", {});
