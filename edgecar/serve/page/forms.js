// The two dialogs: a camera to add, and the token of the server.

import { ask, reason, sendToken } from "./api.js";
import { choices, line } from "./elements.js";

const USUAL = "edgecar-s"; // the network of the server where none is named

// Sends a form, says in it what went wrong, and empties it only when it was taken.
function onSend(dialog, send) {
  const form = dialog.querySelector("form");
  const error = dialog.querySelector(".alert");
  const button = form.querySelector("[type=submit]");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button.disabled) return;
    button.disabled = true;
    line(error, "");
    try {
      await send(Object.fromEntries(new FormData(form)));
      form.reset();
      dialog.close("sent");
    } catch (failure) {
      line(error, reason(failure));
    }
    button.disabled = false;
  });
}

export function addForm(dialog, opener, networks, added) {
  opener.addEventListener("click", () => {
    choices(dialog.querySelector("select"), [...networks(), "pass"], USUAL);
    dialog.showModal();
  });
  dialog.querySelector(".cancel").addEventListener("click", () => dialog.close());
  onSend(dialog, async (values) => added(await ask("POST", "/api/cameras", values)));
}

// Shows the form; resolves once the server took the token.
export function tokenForm(dialog) {
  let done = () => {};
  onSend(dialog, (values) => sendToken(values.token));
  dialog.addEventListener("close", () => {
    if (dialog.returnValue === "sent") done();
    else dialog.showModal(); // Escape closes it, but nothing works without a token
  });
  return () =>
    new Promise((resolve) => {
      done = resolve;
      dialog.returnValue = "";
      dialog.showModal();
    });
}
