import { Component, type ComponentChildren } from "preact";

interface Props {
	/** What is shown; when it changes, it is tried again. */
	of: unknown;
	fallback: (again: () => void) => ComponentChildren;
	children: ComponentChildren;
}

interface State {
	failed: boolean;
	of: unknown;
}

/** Shows something else in the place of a part of the page that cannot be shown; all around it stays as it is. */
export class Boundary extends Component<Props, State> {
	override state: State = { failed: false, of: this.props.of };

	static override getDerivedStateFromProps({ of }: Props, state: State): State | null {
		return of === state.of ? null : { failed: false, of };
	}

	static override getDerivedStateFromError() {
		return { failed: true };
	}

	override componentDidCatch(error: unknown) {
		console.warn("a part of the page could not be shown", error);
	}

	#again = () => this.setState({ failed: false });

	override render() {
		return this.state.failed ? this.props.fallback(this.#again) : this.props.children;
	}
}

/** A text as it was written, and why it is not formatted. */
export function Plain({ text, note }: { text: string; note: string }) {
	return (
		<div class="md">
			<p class="plain" dir="auto">
				{String(text)}
			</p>
			<p class="note">{note}</p>
		</div>
	);
}
