import { Component, type ComponentChildren } from "preact";

interface Props {
	/** The data that is displayed; a change of it causes another attempt. */
	of: unknown;
	fallback: (retry: () => void) => ComponentChildren;
	children: ComponentChildren;
}

interface State {
	hasFailed: boolean;
	of: unknown;
}

/** Replaces a part of the page that cannot be displayed, and only that part, by a fallback. */
export class ErrorBoundary extends Component<Props, State> {
	override state: State = { hasFailed: false, of: this.props.of };

	static override getDerivedStateFromProps({ of }: Props, state: State): State | null {
		return of === state.of ? null : { hasFailed: false, of };
	}

	static override getDerivedStateFromError() {
		return { hasFailed: true };
	}

	override componentDidCatch(error: unknown) {
		console.warn("a part of the page could not be displayed", error);
	}

	#retry = () => this.setState({ hasFailed: false });

	override render() {
		return this.state.hasFailed ? this.props.fallback(this.#retry) : this.props.children;
	}
}
