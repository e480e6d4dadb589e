/** Sets a server's state and weight, where lb4 takes that from this page: a dialog, and the token that must be said. */

const STORED = 'lb4-token';
const PATIENCE = 130_000;

export class OrderDialog {
  #dialog;
  #form;
  #problem;
  #said;
  #row;

  /** @param said where is told what came of it */
  constructor(dialog, said) {
    [this.#dialog, this.#said] = [dialog, said];
    this.#form = dialog.querySelector('form');
    this.#problem = dialog.querySelector('[role=alert]');
    this.#form.addEventListener('submit', (event) => {
      event.preventDefault();
      void this.#send();
    });
    dialog.querySelector('#order-cancel').addEventListener('click', () => dialog.close());
    dialog.querySelector('#order-forget').addEventListener('click', () => {
      sessionStorage.removeItem(STORED);
      this.#askForToken();
    });
  }

  /** Asks what is to become of a server. */
  open(row) {
    this.#row = row;
    const { state, weight, token } = this.#form.elements;
    this.#dialog.querySelector('h2').textContent = row.fullName;
    this.#dialog.querySelector('#order-file').textContent = `the file has ${row.fileWeight}`;
    state.value = row.set.state ?? 'ready';
    weight.value = row.set.weight ?? row.fileWeight;
    token.value = '';
    this.#tell('');
    this.#askForToken();
    this.#dialog.showModal();
  }

  #askForToken() {
    const isKnown = sessionStorage.getItem(STORED) !== null;
    this.#form.elements.token.required = !isKnown;
    this.#form.elements.token.closest('label').hidden = isKnown;
    this.#dialog.querySelector('#order-forget').hidden = !isKnown;
  }

  #tell(problem) {
    this.#problem.textContent = problem;
    this.#problem.hidden = problem === '';
  }

  async #send() {
    const { state, weight, token, set } = this.#form.elements;
    const order = orderOf(this.#row, state.value, Number(weight.value));
    if (Object.keys(order).length === 0) return this.#tell('That is what is set already.');
    const said = sessionStorage.getItem(STORED) ?? token.value;
    set.disabled = true;
    try {
      const response = await fetch(`dashboard/server?server=${encodeURIComponent(this.#row.fullName)}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', authorization: `Bearer ${said}` },
        body: JSON.stringify(order),
        cache: 'no-store',
        signal: AbortSignal.timeout(PATIENCE),
      });
      await this.#take(response, said);
    } catch (error) {
      this.#tell(`No answer: ${error.message}`);
    } finally {
      set.disabled = false;
    }
  }

  async #take(response, said) {
    const answer = await response.json();
    if (response.ok) {
      // In this tab alone, and until it is closed.
      sessionStorage.setItem(STORED, said);
      this.#said.textContent = `${answer.server} is set: ${setText(answer.set ?? {}) || 'as the file has it'}`;
      this.#dialog.close();
      return;
    }
    if (response.status === 401) {
      sessionStorage.removeItem(STORED);
      this.#askForToken();
      this.#form.elements.token.select();
    }
    this.#tell(response.status === 401 ? 'That is not the token of [control].' : answer.error.message);
  }
}

/** What is another than now. */
export function orderOf({ set, fileWeight }, state, weight) {
  return {
    ...(state !== (set.state ?? 'ready') && { state }),
    ...(weight !== (set.weight ?? fileWeight) && { weight }),
  };
}

/** As people read it: `drain, weight 5`. */
export function setText({ state, weight }) {
  return [state, weight === undefined ? undefined : `weight ${weight}`].filter((part) => part !== undefined).join(', ');
}
