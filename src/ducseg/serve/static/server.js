// What the server is asked.

const TRIES = 6;

/** What is served: name, classes, limits. */
export async function model() {
  return (await fetch("model")).json();
}

/**
 * Send a picture; a server that is full is asked again when it says so.
 * Throws an Error with the server's own message, or an AbortError.
 */
export async function predict(file, name, query, signal, waiting) {
  const form = new FormData();
  form.append("picture", file, name);
  for (let tried = 1; ; tried++) {
    let response;
    try {
      response = await fetch(`predict?${query}`, { method: "POST", body: form, signal });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Error("The server does not answer. Is it still running?");
    }
    if (response.ok) return response;
    if (response.status !== 503 || tried === TRIES) throw new Error(await reason(response));
    const seconds = Number(response.headers.get("Retry-After")) || 1;
    waiting(`The server is busy. Trying again in ${seconds} s.`);
    await pause(1000 * seconds, signal);
  }
}

async function reason(response) {
  try {
    return (await response.json()).error;
  } catch {
    return `The server answered with status ${response.status}.`;
  }
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
